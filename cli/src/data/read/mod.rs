//! Files to records: JSONL, JSON arrays, Parquet, told apart by content and checked against the name.

mod guard;
mod json;
mod parquet;
mod strict;

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use super::error::{DataError, FileFault};
use super::record::{Place, Record, Spot};

/// Reads a file's examples, at most `limit` of them, with the columns that are `wanted`; of others at least the names.
pub(super) fn read(path: &Path, limit: usize, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Record>, DataError> {
    let file: Arc<str> = path.display().to_string().into();
    let records = match content(path) {
        Ok(Content::Parquet(opened)) => parquet::records(opened, &file, limit, wanted),
        Ok(Content::Lines(text)) => json::lines(text.as_str(), &file, limit),
        Ok(Content::Array(text)) => json::array(text.as_str(), &file, limit),
        Err(fault) => Err(fault),
    };
    records.map_err(|fault| DataError::File { file, fault: Box::new(fault) })
}

/// The lines of a text file that are not blank, each with its place; `None` if its name says that it holds examples.
pub(super) fn plain_lines(path: &Path) -> Result<Option<Vec<(Place, String)>>, DataError> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
    if ["json", "jsonl", "ndjson", "parquet"].contains(&extension.as_str()) {
        return Ok(None);
    }
    let file: Arc<str> = path.display().to_string().into();
    let place = |line| Place { file: file.clone(), spot: Spot::Line(line) };
    let refused = |fault| DataError::File { file: file.clone(), fault: Box::new(fault) };
    let decoded = fs::read(path).map_err(|error| unreadable(&error)).and_then(decode).map_err(refused)?;
    let lines = decoded.as_str().lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let lines: Vec<(Place, String)> = lines.map(|(number, line)| (place(number + 1), line.to_owned())).collect();
    if lines.is_empty() { Err(refused(FileFault::NoPrompts)) } else { Ok(Some(lines)) }
}

/// What a file holds.
enum Content {
    Parquet(File),
    Lines(Decoded),
    Array(Decoded),
}

/// A file's text, the byte order mark left out.
struct Decoded {
    text: String,
    start: usize,
}

impl Decoded {
    fn as_str(&self) -> &str {
        &self.text[self.start..]
    }
}

fn content(path: &Path) -> Result<Content, FileFault> {
    let mut file = File::open(path).map_err(|error| unreadable(&error))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(FileFault::Directory);
    }
    let mut head = Vec::new();
    file.by_ref().take(8192).read_to_end(&mut head).map_err(|error| unreadable(&error))?;
    refuse(&head)?;
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
    if head.starts_with(b"PAR1") {
        return match extension.as_str() {
            "json" | "jsonl" | "ndjson" => Err(misnamed(extension, "Parquet", "rename it to .parquet")),
            _ => Ok(Content::Parquet(file)),
        };
    }
    if extension == "parquet" && !head.is_empty() {
        return Err(misnamed(
            extension,
            "no Parquet (it does not begin with PAR1)",
            "fetch it again, or rename it if it is JSON",
        ));
    }
    if let Some(offset) = head.iter().position(|byte| *byte == 0) {
        return Err(FileFault::Binary { offset });
    }
    text(decode(fs::read(path).map_err(|error| unreadable(&error))?)?, extension)
}

fn text(decoded: Decoded, extension: String) -> Result<Content, FileFault> {
    let text = decoded.as_str().trim_start();
    match text.chars().next() {
        None => Err(FileFault::Empty),
        Some('{') => Ok(Content::Lines(decoded)),
        Some('[') if matches!(extension.as_str(), "jsonl" | "ndjson") => {
            Err(misnamed(extension, "a JSON array", "rename it to .json, or write one object per line"))
        }
        Some('[') => Ok(Content::Array(decoded)),
        Some(_) => Err(FileFault::Unknown { start: text.lines().next().unwrap_or("").chars().take(40).collect() }),
    }
}

/// Formats that are recognised only to be refused with the right words.
fn refuse(head: &[u8]) -> Result<(), FileFault> {
    const COMPRESSED: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
    ];
    if let Some((_, tool)) = COMPRESSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(FileFault::Compressed { tool });
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Err(FileFault::Utf16);
    }
    Ok(())
}

fn decode(bytes: Vec<u8>) -> Result<Decoded, FileFault> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
        FileFault::Utf8 { line, offset, byte: bytes[offset] }
    })?;
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    Ok(Decoded { text, start })
}

fn misnamed(extension: String, content: &'static str, remedy: &'static str) -> FileFault {
    FileFault::Extension { extension, content, remedy }
}

fn unreadable(error: &std::io::Error) -> FileFault {
    match error.kind() {
        ErrorKind::NotFound => FileFault::Missing,
        ErrorKind::IsADirectory => FileFault::Directory,
        _ => FileFault::Unreadable { reason: error.to_string() },
    }
}
