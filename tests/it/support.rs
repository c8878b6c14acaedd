//! What tests share: where models and data lie, golden values, and counting what could not run.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The folder with the test data: `data` in `HBAT_SHARED` or `../shared`, else where `tests/run` puts it; `None` if it is not
/// there.
pub(crate) fn data() -> Option<PathBuf> {
    let shared = std::env::var_os("HBAT_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    [shared.join("data"), root().join("target/data")].into_iter().find(|folder| folder.is_dir())
}

/// SmolLM2-135M-Instruct in Hugging Face layout: `HBAT_SMOLLM2`, or where `tests/run` puts it; `None` if it is not there.
pub(crate) fn smollm2() -> Option<PathBuf> {
    let made = || root().join("target/models/smollm2-135m-instruct");
    let folder = std::env::var_os("HBAT_SMOLLM2").map_or_else(made, PathBuf::from);
    folder.join("model.safetensors").is_file().then_some(folder)
}

/// Records that the calling test could not run, so that `tests/run` counts it. Call it once per test, then return.
///
/// # Panics
/// With `CI=true`: there nothing may be left out.
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {reason}", thread.name().unwrap_or("a test"));
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("HBAT_SKIPPED_LOG") {
        let mut log = OpenOptions::new().create(true).append(true).open(log).expect("HBAT_SKIPPED_LOG can be written");
        writeln!(log, "{line}").expect("HBAT_SKIPPED_LOG can be written");
    }
}

/// The golden values of `tests/goldens/<name>.json`, made by the script of the same name.
pub(crate) fn golden(name: &str) -> serde_json::Value {
    let path = root().join("tests/goldens").join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The `hbat` program of the same build as this test.
pub(crate) fn hbat() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it lies");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let program = folder.join(format!("hbat{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is missing; run `cargo build --release --workspace` first", program.display());
    program
}
