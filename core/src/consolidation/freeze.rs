//! HBAT-Freeze: the units that matter most to the other objective take no part in this one.

/// Which units to freeze: the floor(`fraction` · units) with the largest accumulated change, ties by name.
///
/// # Panics
/// If there are fewer names than units.
pub fn frozen(accumulated: &[f64], names: &[&str], fraction: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..accumulated.len()).collect();
    order.sort_by(|&a, &b| accumulated[b].total_cmp(&accumulated[a]).then_with(|| names[a].cmp(names[b])));
    let mut frozen = vec![false; accumulated.len()];
    // 0.7 · 90 is 62.999… in floating point.
    let count = (fraction * accumulated.len() as f64 + 1e-9).floor() as usize;
    for &unit in order.iter().take(count) {
        frozen[unit] = true;
    }
    frozen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_changes_freeze_and_ties_go_by_name() {
        assert_eq!(frozen(&[1.0, 3.0, 2.0, 0.0, 0.5], &["a", "b", "c", "d", "e"], 0.4), [false, true, true, false, false]);
        assert_eq!(frozen(&[1.0, 1.0, 1.0], &["b", "c", "a"], 0.34), [false, false, true]);
        assert_eq!(frozen(&[1.0, 1.0, 1.0, 1.0], &["a", "b", "c", "d"], 0.2), [false; 4]);
        assert_eq!(frozen(&[1.0; 90], &[""; 90], 0.7).iter().filter(|frozen| **frozen).count(), 63);
    }
}
