//! Bytes of a file into f32, in the order memory wants them.

use std::ops::Range;
use std::thread;

use half::{bf16, f16};
use hbat::model::Storage;

/// Side of the square that is turned at once: 16 KiB of f32, which the first-level cache holds.
const TILE: usize = 64;

/// Below this many elements, starting threads takes longer than the work.
const SMALL: usize = 1 << 18;

/// Beyond this many threads, memory is the limit.
const MOST_THREADS: usize = 8;

/// Bits of an f32 without its sign from which on it is an infinity or NaN.
const INFINITE: u32 = 0x7f80_0000;

/// A float as a file holds it, little-endian.
pub(super) trait Element {
    const BYTES: usize;
    fn get(bytes: &[u8]) -> f32;
}

impl Element for f32 {
    const BYTES: usize = 4;
    fn get(bytes: &[u8]) -> f32 {
        Self::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Element for bf16 {
    const BYTES: usize = 2;
    fn get(bytes: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
    }
}

impl Element for f16 {
    const BYTES: usize = 2;
    fn get(bytes: &[u8]) -> f32 {
        Self::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

/// Values, and whether all of them are numbers.
pub(super) struct Decoded {
    pub(super) values: Vec<f32>,
    pub(super) finite: bool,
}

/// Decodes `[rows, columns]`; [`Storage::Transposed`] gives `[columns, rows]`.
pub(super) fn decode<E: Element>(bytes: &[u8], [rows, columns]: [usize; 2], storage: Storage) -> Decoded {
    let mut values = vec![0.0; rows * columns];
    let largest = match storage {
        Storage::AsIs => in_bands(&mut values, columns, |first, band| {
            let start = first * columns * E::BYTES;
            convert::<E>(&bytes[start..start + band.len() * E::BYTES], band)
        }),
        Storage::Transposed => in_bands(&mut values, rows, |first, band| {
            let load = |row: usize, wanted: Range<usize>, tile: &mut [f32]| {
                let start = row * columns * E::BYTES;
                convert::<E>(&bytes[start + wanted.start * E::BYTES..start + wanted.end * E::BYTES], tile)
            };
            turn(band, rows, first, load)
        }),
    };
    Decoded { values, finite: largest < INFINITE }
}

/// `[rows, columns]` → `[columns, rows]`.
pub(crate) fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let mut turned = vec![0.0; values.len()];
    in_bands(&mut turned, rows, |first, band| {
        let load = |row: usize, wanted: Range<usize>, tile: &mut [f32]| {
            let row = &values[row * columns..(row + 1) * columns];
            tile.copy_from_slice(&row[wanted]);
            0
        };
        turn(band, rows, first, load)
    });
    turned
}

/// The place of the first element that is an infinity or NaN, and its value.
pub(super) fn first_not_finite<E: Element>(bytes: &[u8]) -> Option<(usize, f32)> {
    bytes.chunks_exact(E::BYTES).map(E::get).enumerate().find(|(_, value)| !value.is_finite())
}

/// Converts, and returns the largest bits without sign: an integer maximum that compiles to vector instructions.
fn convert<E: Element>(bytes: &[u8], out: &mut [f32]) -> u32 {
    let mut largest = 0;
    for (bytes, out) in bytes.chunks_exact(E::BYTES).zip(out) {
        *out = E::get(bytes);
        largest = largest.max(out.to_bits() & 0x7fff_ffff);
    }
    largest
}

/// Fills `band`, rows `first..` of the transposed matrix, each of `rows` elements, square by square.
///
/// Both sides are then touched in runs of whole cache lines, whatever the matrix's width.
fn turn(band: &mut [f32], rows: usize, first: usize, load: impl Fn(usize, Range<usize>, &mut [f32]) -> u32) -> u32 {
    let last = first + band.len() / rows.max(1);
    let mut tile = [[0.0f32; TILE]; TILE];
    let mut largest = 0;
    for row in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - row);
        for column in (first..last).step_by(TILE) {
            let width = TILE.min(last - column);
            for (offset, line) in tile[..height].iter_mut().enumerate() {
                largest = largest.max(load(row + offset, column..column + width, &mut line[..width]));
            }
            for offset in 0..width {
                let start = (column - first + offset) * rows + row;
                for (out, line) in band[start..start + height].iter_mut().zip(&tile) {
                    *out = line[offset];
                }
            }
        }
    }
    largest
}

/// Splits `values` into bands of whole rows, fills them on all cores, and returns the largest of what `fill` returns.
fn in_bands(values: &mut [f32], row: usize, fill: impl Fn(usize, &mut [f32]) -> u32 + Sync) -> u32 {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let rows = values.len() / row.max(1);
    if values.len() < SMALL || threads == 1 {
        return fill(0, values);
    }
    let rows_per_band = rows.div_ceil(threads);
    thread::scope(|scope| {
        let bands = values.chunks_mut(rows_per_band * row).enumerate();
        let fill = &fill;
        let running: Vec<_> = bands.map(|(index, band)| scope.spawn(move || fill(index * rows_per_band, band))).collect();
        running.into_iter().map(|thread| thread.join().expect("filling a band does not panic")).max().unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Shapes around the tile's edge, one element, and one large enough for threads.
    const SHAPES: [[usize; 2]; 6] = [[1, 1], [3, 5], [64, 64], [65, 63], [130, 1], [700, 611]];

    #[test]
    fn turning_moves_every_element_to_its_place() {
        for [rows, columns] in SHAPES {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let decoded = decode::<f32>(&bytes(&values), [rows, columns], Storage::Transposed);
            assert!(decoded.finite);
            for (i, value) in decoded.values.iter().enumerate() {
                assert_eq!(*value, values[i % rows * columns + i / rows], "{rows}×{columns} at {i}");
            }
            assert_eq!(transposed(&values, [rows, columns]), decoded.values);
            assert_eq!(transposed(&decoded.values, [columns, rows]), values);
        }
    }

    #[test]
    fn every_half_is_converted_exactly() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let raw: Vec<u8> = all.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let brain = decode::<bf16>(&raw, [256, 256], Storage::AsIs);
        assert!(brain.values.iter().zip(&all).all(|(v, &bits)| same(*v, bf16::from_bits(bits).to_f32())));
        let half = decode::<f16>(&raw, [256, 256], Storage::AsIs);
        assert!(half.values.iter().zip(&all).all(|(v, &bits)| same(*v, f16::from_bits(bits).to_f32())));
        assert!(!brain.finite && !half.finite);
    }

    #[test]
    fn what_is_no_number_is_found_wherever_it_is() {
        for (at, bad) in [(0, f32::NAN), (427_699, f32::INFINITY), (200_000, f32::NEG_INFINITY)] {
            let mut values = vec![1.0f32; 427_700];
            values[at] = bad;
            for storage in [Storage::AsIs, Storage::Transposed] {
                assert!(!decode::<f32>(&bytes(&values), [700, 611], storage).finite);
            }
            assert_eq!(first_not_finite::<f32>(&bytes(&values)).unwrap().0, at);
        }
        assert!(decode::<f32>(&bytes(&[f32::MAX, f32::MIN]), [1, 2], Storage::AsIs).finite);
    }
}
