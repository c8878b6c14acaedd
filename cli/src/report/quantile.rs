//! Medians and their like.

/// The value below which such a part of the values lies, between two of them in proportion, as NumPy has it; none of none.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let place = values.len().checked_sub(1)? as f64 * part;
    let [below, above] = [place.floor(), place.ceil()].map(|place| values[place as usize]);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_median_lies_between_two_of_an_even_number() {
        let of = |values: &[f64], part| quantile(values.iter().copied(), part);
        assert_eq!([0.25, 0.5, 0.75].map(|part| of(&[4.0, 1.0, 3.0, 2.0], part)), [Some(1.75), Some(2.5), Some(3.25)]);
        assert_eq!((of(&[5.0, 1.0, 4.0], 0.5), of(&[0.5], 0.25), of(&[], 0.5)), (Some(4.0), Some(0.5), None));
    }
}
