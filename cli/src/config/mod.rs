//! From a run file and the command line to a validated [`Plan`].
//!
//! Settings come in layers, the later one wins: the defaults, a run file or the recipe `toy`, `--set KEY=VALUE`, and
//! `--output` and `--device`. Whatever is wrong is refused before anything is read or written, with the place where the
//! setting was made.

mod check;
mod choice;
mod combinations;
pub mod defaults;
mod error;
mod expected;
mod layers;
mod layout;
mod plan;
mod preferences;
mod ranges;
mod run_file;
mod suggest;

pub use choice::{FormatChoice, Limit, Probability};
pub use error::{ConfigError, Place, Setting};
pub use layout::{layout, matmul};
pub use plan::{Plan, Start};
pub use preferences::{DpoSection, PpoSection, RaftSection, RewardSection, RolloutSection, RrhfSection};
pub use run_file::*;

use std::path::{Path, PathBuf};

use hbat::schedule::Method;
use hbat_backends::DeviceName;

use crate::recipes;
use layers::{Layer, Layers, Origin};

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The run file; `None`: the recipe `toy`.
    pub file: Option<PathBuf>,
    /// `--set` arguments, in order.
    pub set: Vec<String>,
    /// `--output`.
    pub output: Option<PathBuf>,
    /// `--device`.
    pub device: Option<DeviceName>,
}

/// Makes the plan of a run. Looks at no file but the run file; see [`Plan::check_paths`].
///
/// # Errors
/// If the run file cannot be read or a setting is wrong.
pub fn resolve(request: &Request) -> Result<Plan, ConfigError> {
    let mut layers = Layers::new();
    let (name, source) = match &request.file {
        Some(file) => add_file(&mut layers, file)?,
        None => {
            add_recipe(&mut layers, recipes::DEFAULT)?;
            (recipes::DEFAULT.name.to_owned(), format!("recipe {}", recipes::DEFAULT.name))
        }
    };
    finish(layers, request, name, &source)
}

/// Makes the plan of a run that goes on, from the configuration in its folder.
///
/// # Errors
/// If the configuration cannot be read or was changed into a wrong one.
pub fn resume(config: &Path, folder: &Path, device: Option<DeviceName>) -> Result<Plan, ConfigError> {
    resolve(&Request { file: Some(config.to_owned()), set: Vec::new(), output: Some(folder.to_owned()), device })
}

/// Makes the plan of an embedded recipe as it stands.
///
/// # Errors
/// If a setting is wrong, which tests exclude.
pub fn resolve_recipe(recipe: recipes::Recipe) -> Result<Plan, ConfigError> {
    let mut layers = Layers::new();
    add_recipe(&mut layers, recipe)?;
    finish(layers, &Request::default(), recipe.name.to_owned(), &format!("recipe {}", recipe.name))
}

fn finish(mut layers: Layers, request: &Request, name: String, source: &str) -> Result<Plan, ConfigError> {
    for assignment in &request.set {
        layers.set(assignment, Path::new(""))?;
    }
    if let Some(output) = &request.output {
        let absolute = std::path::absolute(output).unwrap_or_else(|_| output.clone());
        layers.option("--output", "output", absolute.display().to_string())?;
    }
    if let Some(device) = request.device {
        layers.option("--device", "device", device.to_string())?;
    }
    let mut run = layers.run_file();
    check::check(&layers, &run, source)?;
    if run.name == AUTO {
        run.name = check::made_name(&name);
    }
    Plan::new(layers, run)
}

/// Adds a run file; returns its name without folder and extension, and as the user wrote it.
fn add_file(layers: &mut Layers, file: &Path) -> Result<(String, String), ConfigError> {
    let shown = file.display().to_string();
    let text = read(file, &shown)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    layers.add(Layer { text: &text, origin: Origin::File(&shown), folder })?;
    let name = file.file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok((name, shown))
}

fn add_recipe(layers: &mut Layers, recipe: recipes::Recipe) -> Result<(), ConfigError> {
    layers.add(Layer { text: recipe.text, origin: Origin::Recipe(recipe.name), folder: Path::new("") })
}

fn read(file: &Path, shown: &str) -> Result<String, ConfigError> {
    let bytes = std::fs::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ConfigError::Missing { file: shown.to_owned(), remedy: recipes::remedy(shown) },
        _ if file.is_dir() => ConfigError::Unreadable { file: shown.to_owned(), reason: "it is a folder".into() },
        _ => ConfigError::Unreadable { file: shown.to_owned(), reason: error.to_string() },
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::Utf8 { place: Place::File { file: shown.to_owned(), line } }
    })
}

/// A method's name, as run files and messages write it.
pub fn name(method: Method) -> String {
    toml::Value::try_from(method).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
