//! e^x, and what goes before it, in a form that the compiler turns into vector instructions.

/// e^x within 2 units in the last place. Below −87 it is a number near 1e-38 instead of 0, above 88 one near 2e38.
///
/// x = n·ln 2 + r with |r| ≤ ½ ln 2; e^r by a polynomial of degree 6 (Cephes' `expf`), 2^n by setting the exponent.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_6e-1;
    p = p * r + 5e-1;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3F80_0000));
    (p * r * r + r + 1.0) * power
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Raises every element to that of `row` where it is larger: run over rows, the largest of each column.
#[inline(always)]
pub(super) fn raise(largest: &mut [f32], row: &[f32]) {
    for (largest, value) in largest.iter_mut().zip(row) {
        *largest = if value > largest { *value } else { *largest };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_the_last_digits() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let off = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(off < 2.4e-7, "exp({x}) is off by {off:e}");
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn far_out_it_is_small_or_large_but_a_number() {
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) >= 0.0);
        assert!(exp(1e30).is_finite() && exp(1e30) > 1e38);
        assert!(sigmoid(-1e4) < 1e-37 && sigmoid(1e4) == 1.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
