//! A file of verdicts, one JSON object per line, so that nothing is asked, and paid for, twice.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::JudgeError;
use crate::store::hex;

/// Replies by what was asked of whom; added to as they come, each on the disk before the next is taken.
#[derive(Debug, Default)]
pub struct Verdicts {
    replies: HashMap<String, String>,
    file: Option<(PathBuf, File)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: String,
    reply: String,
}

impl Verdicts {
    /// Opens a file, or makes it. A last line without an end is what a killed program was about to write; it is cut off.
    ///
    /// # Errors
    /// If it cannot be read or written, or holds something else.
    pub fn open(path: &Path) -> Result<Self, JudgeError> {
        let refuse = |reason: String| JudgeError::Verdicts { path: path.to_path_buf(), reason };
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::InvalidData => refuse("is no text; name a file of verdicts, or a new one".to_owned()),
            _ => refuse(format!("cannot be used ({error})")),
        };
        let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
        let mut file = opened.map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut replies = HashMap::new();
        for (number, line) in text[..whole].lines().enumerate() {
            let line: Line = serde_json::from_str(line).map_err(|error| {
                refuse(format!("line {} is no verdict ({error}); remove it, or name another file", number + 1))
            })?;
            replies.insert(line.key, line.reply);
        }
        if whole == 0 && !text.is_empty() && !text.starts_with("{\"key\"") {
            return Err(refuse("holds something else than verdicts; name another file".to_owned()));
        }
        file.set_len(whole as u64).and_then(|()| file.seek(std::io::SeekFrom::End(0))).map_err(failed)?;
        Ok(Self { replies, file: Some((path.to_path_buf(), file)) })
    }

    /// What names a question: whom it is put to, and its words.
    pub fn key(judge: &str, question: &str) -> String {
        hex(&Sha256::new().chain_update(judge).chain_update([0]).chain_update(question).finalize())
    }

    /// The reply to a question that has been put before.
    pub fn reply(&self, key: &str) -> Option<&str> {
        self.replies.get(key).map(String::as_str)
    }

    /// Keeps a reply.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, key: String, reply: &str) -> Result<(), JudgeError> {
        let line = Line { key, reply: reply.to_owned() };
        if let Some((path, file)) = &mut self.file {
            let text = serde_json::to_string(&line).map(|text| text + "\n");
            let written = text.map_err(std::io::Error::from).and_then(|text| file.write_all(text.as_bytes()));
            written
                .map_err(|error| JudgeError::Verdicts { path: path.clone(), reason: format!("cannot be written ({error})") })?;
        }
        self.replies.insert(line.key, line.reply);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_there_again_and_half_a_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.jsonl");
        let mut verdicts = Verdicts::open(&path).unwrap();
        verdicts.add(Verdicts::key("m", "q1"), "because\nA").unwrap();
        drop(verdicts);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"key\": \"ab").unwrap();
        let mut verdicts = Verdicts::open(&path).unwrap();
        assert_eq!(verdicts.reply(&Verdicts::key("m", "q1")), Some("because\nA"));
        assert_eq!(verdicts.reply(&Verdicts::key("n", "q1")), None, "another judge");
        verdicts.add(Verdicts::key("m", "q2"), "B").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert_eq!(Verdicts::open(&path).unwrap().reply(&Verdicts::key("m", "q2")), Some("B"));
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.jsonl");
        for (content, words) in
            [("my notes", "something else"), ("{\"a\": 1}\n", "line 1 is no verdict"), ("\u{0}\n", "line 1 is no verdict")]
        {
            std::fs::write(&path, content).unwrap();
            let error = Verdicts::open(&path).unwrap_err().to_string();
            assert!(error.contains("v.jsonl: ") && error.contains(words), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert!(Verdicts::open(folder.path()).is_err());
    }
}
