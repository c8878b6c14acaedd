//! The page's files: inside the program, or in a folder.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use super::LabCommandError;

/// The page as `npm run build` leaves it, if this program was built with it.
#[cfg(feature = "lab")]
#[derive(rust_embed::Embed)]
#[folder = "../wasm/www/dist"]
struct Inside;

/// Where the page comes from.
#[derive(Debug, Clone)]
pub(super) enum Page {
    /// This program.
    #[cfg(feature = "lab")]
    Inside,
    /// A folder.
    Folder(PathBuf),
}

impl Page {
    /// The folder if one is named, else the page inside the program.
    pub(super) fn find(folder: Option<&Path>) -> Result<Self, LabCommandError> {
        match folder {
            Some(folder) if folder.join("index.html").is_file() => Ok(Self::Folder(folder.to_path_buf())),
            Some(folder) => Err(LabCommandError::NoIndex(folder.to_path_buf())),
            #[cfg(feature = "lab")]
            None => Ok(Self::Inside),
            #[cfg(not(feature = "lab"))]
            None => Err(LabCommandError::NoPage),
        }
    }

    /// A file by its path in the page, without a slash before it.
    pub(super) fn file(&self, path: &str) -> Option<Cow<'static, [u8]>> {
        match self {
            #[cfg(feature = "lab")]
            Self::Inside => Inside::get(path).map(|file| file.data),
            Self::Folder(folder) => {
                let within = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
                within.then(|| std::fs::read(folder.join(path)).ok()).flatten().map(Cow::Owned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_folder_it_is_the_page_inside_or_the_way_to_one() {
        match Page::find(None) {
            Ok(page) => assert!(page.file("index.html").is_some()),
            Err(error) => assert!(matches!(error, LabCommandError::NoPage)),
        }
        assert!(LabCommandError::NoPage.to_string().contains("Build one and name it: `wasm/build`"));
    }

    #[test]
    fn nothing_outside_of_the_folder_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page");
        std::fs::create_dir(&page).unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::write(page.join("index.html"), "page").unwrap();
        let found = Page::find(Some(&page)).unwrap();
        assert_eq!(found.file("index.html").unwrap().as_ref(), b"page");
        for path in ["../secret", "/etc/hostname", "a/../../secret", "", "absent"] {
            assert!(found.file(path).is_none(), "{path}");
        }
        assert!(Page::find(Some(folder.path())).unwrap_err().to_string().contains("there is no index.html in it"));
    }
}
