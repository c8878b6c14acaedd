//! Recipes: commented run files inside the program.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::config::defaults::{self, Line};

/// A run file inside the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// What users call it.
    pub name: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
    /// What it sets, commented.
    pub text: &'static str,
}

/// What `hbat train` takes without a run file.
pub const DEFAULT: Recipe = Recipe {
    name: "toy",
    summary: "two-stage and hbat on the generated skill-and-style task; under a minute, needs no files",
    text: include_str!("../../recipes/toy.toml"),
};

const ALL: [Recipe; 6] = [
    DEFAULT,
    Recipe {
        name: "smollm2",
        summary: "SmolLM2-135M on 64 demonstrations and 64 preferences; on two CPU cores in under 45 minutes",
        text: include_str!("../../recipes/smollm2.toml"),
    },
    Recipe {
        name: "reward",
        summary: "a reward model of SmolLM2-135M on 512 preferences; on two CPU cores in about ten minutes",
        text: include_str!("../../recipes/reward.toml"),
    },
    Recipe {
        name: "ppo",
        summary: "SmolLM2-135M by PPO: its own answers to 128 prompts, judged by the recipe `reward`'s model",
        text: include_str!("../../recipes/ppo.toml"),
    },
    Recipe {
        name: "dialogue",
        summary: "the paper's dialogue task: a 7B LLaMA on Alpaca and AlpacaFarm preferences, N = 2",
        text: include_str!("../../recipes/dialogue.toml"),
    },
    Recipe {
        name: "summarisation",
        summary: "the paper's summarisation task: a 7B LLaMA on Reddit TL;DR, N = 10",
        text: include_str!("../../recipes/summarisation.toml"),
    },
];

/// Why a recipe could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// There is none of that name.
    #[error("there is no recipe {name:?}{hint}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest name, or nothing.
        hint: String,
        /// All names.
        known: String,
    },
    /// The copy's name is taken.
    #[error("{file}: exists already; choose another name, or remove it first")]
    Exists {
        /// The path.
        file: String,
    },
    /// The copy could not be written.
    #[error("{file}: cannot be written: {reason}; choose a folder that exists and may be written to")]
    Write {
        /// The path.
        file: String,
        /// What the operating system said.
        reason: String,
    },
}

/// All recipes, the default first.
pub fn list() -> &'static [Recipe] {
    &ALL
}

/// The recipe of a name.
///
/// # Errors
/// If there is none; names the nearest.
pub fn get(name: &str) -> Result<Recipe, RecipeError> {
    let found = ALL.iter().find(|recipe| recipe.name == name).copied();
    found.ok_or_else(|| RecipeError::Unknown {
        name: name.to_owned(),
        hint: nearest(name).map_or_else(String::new, |near| format!("; did you mean {near:?}?")),
        known: ALL.map(|recipe| recipe.name).join(", "),
    })
}

/// Writes a recipe, complete, into a new file: `destination`, or in it if it is a folder. Returns the file's path.
///
/// # Errors
/// If there is no such recipe, the file exists, or it cannot be written.
pub fn copy(name: &str, destination: &Path) -> Result<PathBuf, RecipeError> {
    let recipe = get(name)?;
    let file = if destination.is_dir() { destination.join(name).with_extension("toml") } else { destination.to_owned() };
    let shown = file.display().to_string();
    let mut new = OpenOptions::new().write(true).create_new(true).open(&file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => RecipeError::Exists { file: shown.clone() },
        _ => RecipeError::Write { file: shown.clone(), reason: error.to_string() },
    })?;
    let written = new.write_all(recipe.complete().as_bytes());
    written.map_err(|error| RecipeError::Write { file: shown, reason: error.to_string() })?;
    Ok(file)
}

/// What to do about a run file that is not there.
pub(crate) fn remedy(file: &str) -> String {
    match ALL.iter().find(|recipe| recipe.name == file) {
        Some(recipe) => {
            format!("it is the name of a recipe: `hbat recipes cp {file} {file}.toml` writes a copy{}", alone(recipe))
        }
        None => "check the path, or begin with a copy of a recipe: `hbat recipes ls`".to_owned(),
    }
}

fn alone(recipe: &Recipe) -> &'static str {
    if *recipe == DEFAULT { ", and `hbat train` alone runs it" } else { "" }
}

fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let similar = ALL.iter().map(|recipe| (strsim::jaro_winkler(recipe.name, &name), recipe.name));
    similar.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

impl Recipe {
    /// The recipe with every setting that it leaves alone added as a comment, in its section and at its default.
    pub fn complete(&self) -> String {
        let rest = Rest { given: defaults::keys(self.text).into_iter().collect() };
        let mut text = String::new();
        let mut section = "";
        let mut seen = BTreeSet::new();
        for line in self.text.lines() {
            if let Some(Line::Section(next)) = defaults::lines(line).next() {
                rest.close(&mut text, section);
                seen.insert(section);
                section = next;
            }
            text.push_str(line);
            text.push('\n');
        }
        rest.close(&mut text, section);
        seen.insert(section);
        rest.append_sections(&mut text, &seen);
        text
    }
}

/// The settings that a recipe leaves at their defaults.
struct Rest {
    given: BTreeSet<String>,
}

impl Rest {
    /// The lines `# key = value` of a section, each after its explanation.
    fn lines(&self, section: &str) -> Vec<String> {
        let (mut here, mut comments, mut lines) = ("", Vec::new(), Vec::new());
        for line in defaults::lines(defaults::TEXT) {
            match line {
                Line::Section(name) => (here, comments) = (name, Vec::new()),
                Line::Comment("") => comments.clear(),
                Line::Comment(comment) => comments.push(format!("#{comment}")),
                Line::Setting(..) if here != section => comments.clear(),
                Line::Setting(key, _) if self.given.contains(&defaults::join(here, key)) => comments.clear(),
                Line::Setting(key, value) => {
                    lines.append(&mut comments);
                    lines.push(format!("# {key} = {value}"));
                }
            }
        }
        lines
    }

    /// Ends a section with what it leaves alone.
    fn close(&self, text: &mut String, section: &str) {
        let lines = self.lines(section);
        if lines.is_empty() {
            return;
        }
        let body = text.trim_end().len();
        text.truncate(body);
        text.push_str(&format!("\n{}\n\n", lines.join("\n")));
    }

    /// Adds the sections of which nothing is set.
    fn append_sections(&self, text: &mut String, seen: &BTreeSet<&str>) {
        for line in defaults::lines(defaults::TEXT) {
            if let Line::Section(name) = line
                && !seen.contains(name)
            {
                text.push_str(&format!("# [{name}]\n{}\n\n", self.lines(name).join("\n")));
            }
        }
        let body = text.trim_end().len();
        text.truncate(body);
        text.push('\n');
    }
}
