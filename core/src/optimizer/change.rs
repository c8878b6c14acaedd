//! How far the weights moved: Σ (θ_before − θ_after)² per unit, in f64 from f32 weights.

use super::{device, host};
use crate::compute::Memory;
use crate::error::Error;
use crate::model::Policy;
use crate::reduce::Reduce;
use crate::slab::{Slab, floats};

/// Every unit's squared distance from `before`; each rank computes the units it owns.
///
/// # Errors
/// If the device fails, or what `unreadable` makes of a `before` that cannot be read.
pub(crate) async fn squared_distances<R: Reduce>(
    policy: &Policy,
    before: &mut dyn FnMut(usize) -> Result<Slab, String>,
    reduce: &R,
    unreadable: impl Fn(String) -> Error,
) -> Result<Vec<f64>, Error> {
    let units = policy.units().clone();
    let mut distances = vec![0.0; units.len()];
    for (unit, distance) in distances.iter_mut().enumerate().filter(|(unit, _)| reduce.owns(*unit)) {
        let before = before(unit).map_err(&unreadable)?;
        *distance = one(policy, unit, before).await?;
    }
    reduce.sum(&mut distances).await;
    Ok(distances)
}

async fn one(policy: &Policy, unit: usize, before: Slab) -> Result<f64, Error> {
    match (policy.compute().layout.updates(), before) {
        (Memory::Host, Slab::Host(before)) => Ok(host::squared_distance(&before, &policy.values(unit).await?)),
        (_, before) => {
            let before = before.tensor(policy.units()[unit].dims(), policy.compute());
            let distance = device::squared_distance(before, policy.exact(unit));
            let values = floats(distance.into_data_async().await.map_err(Error::device)?)?;
            Ok(values.iter().map(|v| f64::from(*v)).sum())
        }
    }
}
