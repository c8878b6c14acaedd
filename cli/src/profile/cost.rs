//! What a step costs.

use burn::tensor::Device;
use hbat::records::StepCost;
use hbat::watch::Part;
use hbat_backends::{DeviceName, Usage};

use super::Span;
use crate::config::Plan;

/// Measures steps on a device.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    name: DeviceName,
    device: Device,
    weights: usize,
    /// Operations per second that the maker promises.
    peak: Option<f64>,
    /// The most memory so far: what an allocator holds may become less.
    most: u64,
    /// Seconds that copies beside computation have taken so far.
    carried: f64,
}

impl Meter {
    /// For a model of so many weights.
    pub(crate) fn new(plan: &Plan, device: Device, weights: usize) -> Self {
        let peak = hbat_backends::peak_flops(plan.device, plan.layout.precision.weights.dtype());
        Self { name: plan.device, device, weights, peak, most: 0, carried: 0.0 }
    }

    /// What a step of so many tokens cost.
    pub(crate) fn cost(&mut self, tokens: usize, seconds: f64, spans: &[Span]) -> StepCost {
        let usage = hbat_backends::usage(self.name, &self.device);
        let before = std::mem::replace(&mut self.carried, hbat_backends::carried(self.name));
        self.most = usage.map_or(0, |usage| usage.peak).max(self.most);
        StepCost {
            seconds,
            saving_seconds: 0.0,
            transfer_seconds: spans
                .iter()
                .filter(|span| span.part == Part::Transfer)
                .map(Span::own)
                .fold(self.carried - before, |sum, own| sum + own),
            utilisation: self.peak.map(|peak| 6.0 * (self.weights * tokens) as f64 / seconds / peak),
            memory: usage.map(|Usage { now, .. }| [now, self.most]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utilisation_is_six_operations_per_weight_and_token() {
        let device = Device::flex();
        let mut meter =
            Meter { name: DeviceName::Cpu, device, weights: 7_000_000_000, peak: Some(989e12), most: 0, carried: 0.0 };
        let span = |part, to| Span { part, from: 1.0, to, within: 0.0 };
        let cost = meter.cost(8192, 1.0, &[span(Part::Forward, 9.0), span(Part::Transfer, 1.25), span(Part::Transfer, 1.25)]);
        assert!((cost.utilisation.unwrap() - 0.347_891).abs() < 1e-5, "{cost:?}");
        assert_eq!(cost.transfer_seconds, 0.5);
        let measured = cost.memory.is_some_and(|[now, peak]| now > 1 << 20 && peak >= now);
        assert_eq!(measured, cfg!(target_os = "linux"));
    }
}
