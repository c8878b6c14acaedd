//! A canvas measured in points, drawn four times as fine and averaged down to two pixels per point.

use epaint_default_fonts::UBUNTU_LIGHT;
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, TextStyle, register_font};

use super::PlotError;
use super::geometry::{Point, Rect, along, distance};

/// Size of a picture in points.
pub(super) const SIZE: (f64, f64) = (1200.0, 800.0);
/// Pixels per point in the finished picture.
pub(super) const SHARPNESS: usize = 2;
/// Drawn pixels per pixel, in each direction.
const FINENESS: usize = 2;
/// Drawn pixels per point.
const SCALE: f64 = (SHARPNESS * FINENESS) as f64;
const FONT: &str = "hbat";
/// The font's line height in units of its size (its ascent and descent), which is how the rasteriser takes sizes.
const LINE: f64 = 1.121;

/// An opaque colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ink(pub(super) u8, pub(super) u8, pub(super) u8);

impl Ink {
    /// The colour mixed with white; 0 is white, 1 the colour itself.
    pub(super) fn tint(self, strength: f64) -> Self {
        let mix = |part: u8| (255.0 - strength * (255.0 - f64::from(part))).round() as u8;
        Self(mix(self.0), mix(self.1), mix(self.2))
    }

    /// Whether dark letters stand out from it better than white ones.
    pub(super) fn is_light(self) -> bool {
        2126 * u32::from(self.0) + 7152 * u32::from(self.1) + 722 * u32::from(self.2) > 1_500_000
    }

    /// The colour mixed with black; 0 is the colour itself, 1 black.
    pub(super) fn shade(self, strength: f64) -> Self {
        let mix = |part: u8| (f64::from(part) * (1.0 - strength)).round() as u8;
        Self(mix(self.0), mix(self.1), mix(self.2))
    }

    fn rgb(self) -> RGBColor {
        RGBColor(self.0, self.1, self.2)
    }
}

/// Stroke weight of letters. The embedded font is light; heavier ones are drawn several times, a little aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// Where a text lies from its point on the base line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

/// How a text looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Type {
    /// Em size in points.
    pub(super) size: f64,
    pub(super) ink: Ink,
    pub(super) weight: Weight,
    pub(super) align: Align,
}

impl Type {
    pub(super) fn new(size: f64, ink: Ink) -> Self {
        Self { size, ink, weight: Weight::Regular, align: Align::Left }
    }

    pub(super) fn bold(self) -> Self {
        Self { weight: Weight::Bold, ..self }
    }

    pub(super) fn aligned(self, align: Align) -> Self {
        Self { align, ..self }
    }

    /// How many drawn pixels are added to the light strokes.
    fn spread(&self) -> i32 {
        let part = match self.weight {
            Weight::Regular => 0.018,
            Weight::Bold => 0.05,
        };
        (self.size * SCALE * part).round() as i32
    }

    fn style(&self) -> TextStyle<'static> {
        (FONT, self.size * SCALE * LINE).into_font().color(&self.ink.rgb())
    }

    /// The text's width in points.
    pub(super) fn width(&self, text: &str) -> f64 {
        let words: Vec<f64> = text.split(' ').map(|word| self.word(word)).collect();
        words.iter().sum::<f64>() + self.blank() * (words.len() - 1) as f64
    }

    /// Words are set one by one: the font kerns blanks so tightly that words would run together.
    fn blank(&self) -> f64 {
        0.27 * self.size
    }

    fn word(&self, text: &str) -> f64 {
        let layout = self.style().font.layout_box(text);
        layout.map_or(0.0, |((left, _), (right, _))| f64::from(right - left + self.spread()) / SCALE)
    }

    /// The text, cut to so many points.
    pub(super) fn cut(&self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_string();
        }
        let letters: Vec<char> = text.chars().collect();
        let kept = |count: usize| letters[..count].iter().collect::<String>().trim_end().to_string() + "…";
        (0..letters.len()).rev().map(kept).find(|text| self.width(text) <= width).unwrap_or_else(|| "…".to_string())
    }
}

/// A white surface to draw on. Opaque inks only: overlapping strokes do not show.
pub(super) struct Canvas<'a> {
    backend: BitMapBackend<'a>,
}

/// Makes the embedded font known; to do so again does no harm.
fn register() -> Result<(), PlotError> {
    register_font(FONT, FontStyle::Normal, UBUNTU_LIGHT).map_err(|_| PlotError::Font)
}

/// Lets `draw` draw a picture and gives it as PNG.
pub(super) fn png(draw: impl FnOnce(&mut Canvas<'_>) -> Result<(), PlotError>) -> Result<Vec<u8>, PlotError> {
    register()?;
    let (width, height) = ((SIZE.0 * SCALE) as usize, (SIZE.1 * SCALE) as usize);
    let mut fine = vec![255; 3 * width * height];
    let backend = BitMapBackend::with_buffer(&mut fine, (width as u32, height as u32));
    draw(&mut Canvas { backend })?;
    encode(&coarse(&fine, width), width / FINENESS, height / FINENESS)
}

/// Every pixel the mean of the drawn ones. `fine` has so many pixels a row.
fn coarse(fine: &[u8], width: usize) -> Vec<u8> {
    let rows = fine.chunks_exact(3 * width * FINENESS);
    let pixel = |rows: &[u8], column: usize, part: usize| {
        let cells = (0..FINENESS * FINENESS).map(|cell| (cell / FINENESS, column * FINENESS + cell % FINENESS));
        let sum: usize = cells.map(|(row, column)| usize::from(rows[3 * (row * width + column) + part])).sum();
        ((sum + FINENESS * FINENESS / 2) / (FINENESS * FINENESS)) as u8
    };
    let columns = width / FINENESS;
    rows.flat_map(|rows| (0..3 * columns).map(move |at| pixel(rows, at / 3, at % 3))).collect()
}

fn encode(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>, PlotError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(bytes)
}

fn drawing(error: impl std::fmt::Display) -> PlotError {
    PlotError::Draw(error.to_string())
}

fn fine(point: Point) -> (i32, i32) {
    ((point.0 * SCALE).round() as i32, (point.1 * SCALE).round() as i32)
}

impl Canvas<'_> {
    pub(super) fn rect(&mut self, rect: Rect, ink: Ink) -> Result<(), PlotError> {
        let corners = (fine((rect.left, rect.top)), fine((rect.right, rect.bottom)));
        self.backend.draw_rect(corners.0, corners.1, &ink.rgb().filled(), true).map_err(drawing)
    }

    pub(super) fn polygon(&mut self, corners: &[Point], ink: Ink) -> Result<(), PlotError> {
        self.backend.fill_polygon(corners.iter().copied().map(fine), &ink.rgb()).map_err(drawing)
    }

    pub(super) fn disc(&mut self, centre: Point, radius: f64, ink: Ink) -> Result<(), PlotError> {
        let radius = (radius * SCALE).round() as u32;
        self.backend.draw_circle(fine(centre), radius, &ink.rgb().filled(), true).map_err(drawing)
    }

    /// A line through points with round joints and ends, so many points wide.
    pub(super) fn stroke(&mut self, points: &[Point], width: f64, ink: Ink) -> Result<(), PlotError> {
        for pair in points.windows(2) {
            self.segment(pair[0], pair[1], width, ink)?;
        }
        if width * SCALE > 3.0 {
            for point in points {
                self.disc(*point, width / 2.0 - 0.5 / SCALE, ink)?;
            }
        }
        Ok(())
    }

    fn segment(&mut self, from: Point, to: Point, width: f64, ink: Ink) -> Result<(), PlotError> {
        let length = distance(from, to);
        if length * SCALE < 1.0 {
            return Ok(());
        }
        let across = ((to.1 - from.1) / length * width / 2.0, (from.0 - to.0) / length * width / 2.0);
        let corners = [(from, 1.0), (to, 1.0), (to, -1.0), (from, -1.0)];
        self.polygon(&corners.map(|(end, side)| (end.0 + side * across.0, end.1 + side * across.1)), ink)
    }

    /// A dashed straight line.
    pub(super) fn dashes(&mut self, from: Point, to: Point, width: f64, ink: Ink) -> Result<(), PlotError> {
        let length = distance(from, to);
        let (dash, period) = (4.0 * width, 8.0 * width);
        let mut at = 0.0;
        while at < length {
            let ends = [at, (at + dash).min(length)].map(|at| along(from, to, at / length));
            self.segment(ends[0], ends[1], width, ink)?;
            at += period;
        }
        Ok(())
    }

    /// A text on one line; `point` lies on its base line.
    pub(super) fn text(&mut self, text: &str, point: Point, kind: Type) -> Result<(), PlotError> {
        let spread = kind.spread();
        for aside in 0..=spread {
            self.letters(text, point, kind, (aside, 0))?;
            self.letters(text, point, kind, (aside, -spread / 2))?;
        }
        Ok(())
    }

    /// A text with a white seam, readable on lines.
    pub(super) fn text_on_lines(&mut self, text: &str, point: Point, kind: Type) -> Result<(), PlotError> {
        let seam = (2.0 * SCALE) as i32;
        let white = Type { ink: Ink(255, 255, 255), ..kind };
        let diagonal = seam * 7 / 10;
        for side in [-1, 1] {
            for aside in [(side * seam, 0), (0, side * seam), (side * diagonal, diagonal), (side * diagonal, -diagonal)] {
                self.letters(text, point, white, aside)?;
            }
        }
        self.text(text, point, kind)
    }

    fn letters(&mut self, text: &str, point: Point, kind: Type, aside: (i32, i32)) -> Result<(), PlotError> {
        let before = match kind.align {
            Align::Left => 0.0,
            Align::Centre => kind.width(text) / 2.0,
            Align::Right => kind.width(text),
        };
        let style = kind.style();
        // The rasteriser puts the base line half a line height below the point it is given.
        let line = (kind.size * SCALE * LINE / 2.0) as i32;
        let mut left = point.0 - before;
        for word in text.split(' ') {
            let (x, y) = fine((left, point.1));
            self.backend.draw_text(word, &style, (x + aside.0, y + aside.1 - line)).map_err(drawing)?;
            left += kind.word(word) + kind.blank();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Ink = Ink(0, 0, 0);

    fn decoded(draw: impl FnOnce(&mut Canvas<'_>) -> Result<(), PlotError>) -> Vec<u8> {
        let bytes = png(draw).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (2400, 1600));
        pixels
    }

    #[test]
    fn a_rectangle_covers_its_pixels() {
        let pixels = decoded(|canvas| canvas.rect(Rect { left: 10.0, top: 20.0, right: 30.0, bottom: 40.0 }, BLACK));
        let at = |x: usize, y: usize| pixels[3 * (2400 * y + x)];
        assert_eq!([at(19, 50), at(21, 50), at(58, 50), at(62, 50), at(40, 39), at(40, 41)], [255, 0, 0, 255, 255, 0]);
    }

    #[test]
    fn a_text_lies_on_its_base_line_and_within_its_width() {
        let kind = Type::new(20.0, BLACK);
        let pixels = decoded(|canvas| canvas.text("HEH", (100.0, 100.0), kind));
        let dark = |x: usize, y: usize| pixels[3 * (2400 * y + x)] < 128;
        let rows: Vec<usize> = (0..1600).filter(|y| (0..2400).any(|x| dark(x, *y))).collect();
        let columns: Vec<usize> = (0..2400).filter(|x| (0..1600).any(|y| dark(*x, y))).collect();
        assert!(rows[rows.len() - 1].abs_diff(200) <= 1 && (26..30).contains(&rows.len()), "{rows:?}");
        let right = 200 + (2.0 * kind.width("HEH")) as usize;
        assert!(columns[0] >= 200 && columns[columns.len() - 1] <= right && columns[columns.len() - 1] + 12 > right, "{right}");
    }

    #[test]
    fn a_cut_text_fits() {
        register().unwrap();
        let kind = Type::new(12.0, BLACK);
        assert_eq!(kind.cut("short", 100.0), "short");
        let cut = kind.cut(&"a long label ".repeat(20), 100.0);
        assert!(cut.ends_with('…') && kind.width(&cut) <= 100.0 && kind.width(&cut) > 85.0, "{cut}");
        assert_eq!(kind.cut("anything", 0.0), "…");
    }

    #[test]
    fn inks_mix_with_white_and_black() {
        assert_eq!(Ink(0, 100, 200).tint(0.5), Ink(128, 178, 228));
        assert_eq!(Ink(0, 100, 200).shade(0.5), Ink(0, 50, 100));
    }
}
