//! Directories and files that appear whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::StoreError;

const NEW: &str = ".tmp-";
const OLD: &str = ".old-";

/// A directory being filled beside its final place.
///
/// Dropped without [`Aside::commit`], it is removed again; left behind by a killed process, [`recover`] removes it.
#[derive(Debug)]
pub(crate) struct Aside {
    target: PathBuf,
    path: PathBuf,
}

impl Aside {
    /// Starts a directory that shall become `target`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(crate) fn begin(target: &Path) -> Result<Self, StoreError> {
        let path = sibling(target, NEW);
        fs::create_dir_all(parent(target)).map_err(StoreError::writing(parent(target)))?;
        if path.exists() {
            fs::remove_dir_all(&path).map_err(StoreError::doing("remove", &path))?;
        }
        fs::create_dir(&path).map_err(StoreError::writing(&path))?;
        Ok(Self { target: target.to_path_buf(), path })
    }

    /// Where to write meanwhile.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the directory in its place; what was there before is removed afterwards.
    ///
    /// Directories cannot be swapped portably, so for an instant the target is missing; the old one then still lies
    /// beside it, and [`recover`] puts it back.
    ///
    /// # Errors
    /// If a rename fails; the target is then what it was.
    pub(crate) fn commit(self) -> Result<(), StoreError> {
        sync_dir(&self.path)?;
        let old = sibling(&self.target, OLD);
        let replaces = self.target.exists();
        if replaces {
            fs::rename(&self.target, &old).map_err(StoreError::writing(&self.target))?;
        }
        if let Err(error) = fs::rename(&self.path, &self.target) {
            if replaces {
                fs::rename(&old, &self.target).map_err(StoreError::writing(&self.target))?;
            }
            return Err(StoreError::writing(&self.target)(error));
        }
        sync_dir(parent(&self.target))?;
        if replaces {
            fs::remove_dir_all(&old).map_err(StoreError::doing("remove", &old))?;
        }
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // After a commit there is nothing under this name; after an error, nothing better to do than to try.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Undoes or finishes what a killed process left half done in `folder`. Only for a folder no other process works in.
///
/// # Errors
/// If something cannot be renamed or removed.
pub(crate) fn recover(folder: &Path) -> Result<(), StoreError> {
    for name in names(folder)? {
        let path = folder.join(&name);
        if let Some(target) = name.strip_prefix(OLD).map(|name| folder.join(name))
            && !target.exists()
        {
            fs::rename(&path, &target).map_err(StoreError::doing("rename", &path))?;
        } else if name.starts_with(OLD) || name.starts_with(NEW) {
            remove_all(&path)?;
        }
    }
    Ok(())
}

/// Removes a directory so that a kill midway leaves no half of it under its name.
///
/// # Errors
/// If it cannot be removed.
pub(crate) fn remove_dir(path: &Path) -> Result<(), StoreError> {
    let aside = sibling(path, NEW);
    fs::rename(path, &aside).map_err(StoreError::doing("remove", path))?;
    remove_all(&aside)
}

/// Writes a file of any length and waits for the disk.
///
/// # Errors
/// If it cannot be created or written.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create(path).map_err(StoreError::writing(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(StoreError::writing(path))
}

/// Writes a file aside and renames it into place.
///
/// # Errors
/// If it cannot be created, written or renamed; what was there before is then untouched.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let aside = sibling(path, NEW);
    let written = write_file(&aside, bytes);
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written?;
    fs::rename(&aside, path).map_err(StoreError::writing(path))?;
    sync_dir(parent(path))
}

/// Gives a file that nobody changes any more a second name, by a hard link, which costs nothing, or a copy where there are none.
///
/// # Errors
/// If it can be neither linked nor copied.
pub(crate) fn link(file: &Path, path: &Path) -> Result<(), StoreError> {
    if fs::hard_link(file, path).is_err() {
        File::open(file).map_err(StoreError::reading(file))?;
        fs::copy(file, path).map_err(StoreError::writing(path))?;
        File::open(path).and_then(|copy| copy.sync_all()).map_err(StoreError::writing(path))?;
    }
    Ok(())
}

/// Gives all files of a folder a second name in another.
///
/// # Errors
/// If one can be neither linked nor copied.
pub(crate) fn link_files(folder: &Path, into: &Path) -> Result<(), StoreError> {
    let files = names(folder)?.into_iter().filter(|name| folder.join(name).is_file());
    files.into_iter().try_for_each(|name| link(&folder.join(&name), &into.join(&name)))?;
    sync_dir(into)
}

/// Waits until the names in a directory are on the disk.
#[cfg(unix)]
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(StoreError::writing(path))
}

/// Elsewhere directories cannot be flushed on their own; the file system's journal has to do.
#[cfg(not(unix))]
pub(crate) fn sync_dir(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// The entries of a directory, sorted. Names that are not UTF-8 are not ours.
///
/// # Errors
/// If the directory cannot be listed.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::reading(folder))?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Whether an entry is one of ours in the making.
pub(crate) fn is_aside(name: &str) -> bool {
    name.starts_with(NEW) || name.starts_with(OLD)
}

fn remove_all(path: &Path) -> Result<(), StoreError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(StoreError::doing("remove", path))
}

fn sibling(path: &Path, prefix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!("{prefix}{name}"))
}

/// The directory a path lies in; for a bare name the current one.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(target: &Path, text: &str) -> Aside {
        let aside = Aside::begin(target).unwrap();
        write_file(&aside.path().join("a"), text.as_bytes()).unwrap();
        aside
    }

    #[test]
    fn a_directory_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("best");
        filled(&target, "one").commit().unwrap();
        filled(&target, "two").commit().unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "two");
        assert_eq!(names(folder.path()).unwrap(), ["best"]);
    }

    #[test]
    fn without_commit_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(&folder.path().join("best"), "one"));
        assert!(names(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_kill_between_the_two_renames_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("best");
        filled(&target, "one").commit().unwrap();
        let second = filled(&target, "two");
        fs::rename(&target, folder.path().join(".old-best")).unwrap();
        std::mem::forget(second);
        recover(folder.path()).unwrap();
        assert_eq!(names(folder.path()).unwrap(), ["best"]);
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "one");
    }

    #[test]
    fn a_kill_before_the_old_one_is_removed_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("best");
        filled(&target, "two").commit().unwrap();
        fs::create_dir(folder.path().join(".old-best")).unwrap();
        recover(folder.path()).unwrap();
        assert_eq!(names(folder.path()).unwrap(), ["best"]);
    }

    #[test]
    fn a_bare_name_lies_in_the_current_directory() {
        assert_eq!(sibling(Path::new("best"), NEW), Path::new("./.tmp-best"));
    }
}
