//! Files to records: JSONL, JSON arrays, Parquet, told apart by content and checked against the name.

mod guard;
mod json;
mod parquet;
mod strict;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use super::error::{DataError, FileFault};
use super::record::{Place, Record, Spot};

/// Reads a file's examples, at most `limit` of them, with the columns that are `wanted`; of others at least the names.
pub(super) fn read(path: &Path, limit: usize, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Record>, DataError> {
    at(path, |file| records(content(path)?, file, limit, wanted))
}

/// What prompts are taken from.
pub(super) enum Asked {
    /// Lines of a text that are not blank, each with its place.
    Lines(Vec<(Place, String)>),
    /// Examples.
    Records(Vec<Record>),
}

/// The same of a file that may be plain text: it is, unless its name says that it holds examples, or it does.
pub(super) fn read_prompts(path: &Path, limit: usize, wanted: &dyn Fn(&str) -> bool) -> Result<Asked, DataError> {
    let named = EXTENSIONS.contains(&extension(path).as_str());
    let blank = |fault| if matches!(fault, FileFault::Empty) && !named { FileFault::NoPrompts } else { fault };
    at(path, |file| match content(path).map_err(blank)? {
        Content::Text(decoded) if !named => lines(&decoded, file, limit).map(Asked::Lines),
        Content::Lines(decoded) if !named && !two_lines(&decoded).all(json::is_object) => {
            lines(&decoded, file, limit).map(Asked::Lines)
        }
        Content::Array(decoded) if !named && !json::is_array(decoded.as_str()) => lines(&decoded, file, limit).map(Asked::Lines),
        content => records(content, file, limit, wanted).map(Asked::Records),
    })
}

/// Names of files that hold examples.
const EXTENSIONS: [&str; 4] = ["json", "jsonl", "ndjson", "parquet"];

/// Does something with a file; what goes wrong names it.
fn at<T>(path: &Path, read: impl FnOnce(&Arc<str>) -> Result<T, FileFault>) -> Result<T, DataError> {
    let file: Arc<str> = path.display().to_string().into();
    read(&file).map_err(|fault| DataError::File { file, fault: Box::new(fault) })
}

fn records(content: Content, file: &Arc<str>, limit: usize, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Record>, FileFault> {
    match content {
        Content::Parquet(opened) => parquet::records(opened, file, limit, wanted),
        Content::Lines(text) => json::lines(text.as_str(), file, limit),
        Content::Array(text) => json::array(text.as_str(), file, limit),
        Content::Text(text) => Err(FileFault::Unknown { start: first_line(&text).chars().take(40).collect() }),
    }
}

fn lines(decoded: &Decoded, file: &Arc<str>, limit: usize) -> Result<Vec<(Place, String)>, FileFault> {
    let place = |line| Place { file: file.clone(), spot: Spot::Line(line) };
    let lines = decoded.as_str().lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(lines.take(limit).map(|(number, line)| (place(number + 1), line.to_owned())).collect())
}

/// The first two that are not blank: one object may be a prompt about JSON.
fn two_lines(decoded: &Decoded) -> impl Iterator<Item = &str> {
    decoded.as_str().lines().filter(|line| !line.trim().is_empty()).take(2)
}

fn first_line(decoded: &Decoded) -> &str {
    decoded.as_str().trim_start().lines().next().unwrap_or_default()
}

/// What a file holds.
enum Content {
    Parquet(File),
    /// Begins as lines of JSON do,
    Lines(Decoded),
    /// as an array,
    Array(Decoded),
    /// or as neither.
    Text(Decoded),
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
    let extension = extension(path);
    if head.starts_with(b"PAR1") {
        return match extension.as_str() {
            "json" | "jsonl" | "ndjson" => Err(misnamed(extension, "Parquet", "rename it to .parquet")),
            _ if !file.metadata().is_ok_and(|metadata| metadata.is_file()) => Err(FileFault::Pipe),
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
    if ["csv", "tsv"].contains(&extension.as_str()) {
        return Err(FileFault::Csv { extension });
    }
    // Not from the beginning once more: a pipe is read once.
    file.read_to_end(&mut head).map_err(|error| unreadable(&error))?;
    text(decode(head)?, extension)
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
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
        Some(_) => Ok(Content::Text(decoded)),
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
