//! A model's chat template.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error};

use super::error::{TextError, excerpt, tail};
use super::jinja;
use super::message::Message;
use super::tokenizer::{read, settings};

/// Whether a rendering ends with the words that make the model answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Ends where the assistant's turn begins.
    Prompted,
    /// Ends after the last message.
    Finished,
}

/// A chat template, compiled, with the special tokens it may print.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: BTreeMap<String, String>,
    source: String,
    file: String,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChatTemplate").field("file", &self.file).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Reads a model directory's template: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json` (a text, or a list of
    /// named ones of which `default` is taken). `None` if it has none.
    ///
    /// # Errors
    /// If a file cannot be read or the template does not compile.
    pub fn load(directory: &Path, special: &BTreeMap<String, String>) -> Result<Option<Self>, TextError> {
        let file = directory.join("chat_template.jinja");
        if file.exists() {
            return Self::new(&read(&file)?, &file.display().to_string(), special.clone()).map(Some);
        }
        let file = directory.join("tokenizer_config.json");
        match configured(&file)? {
            Some(source) => Self::new(&source, &file.display().to_string(), special.clone()).map(Some),
            None => Ok(None),
        }
    }

    /// Compiles a template. `file` is what messages call it, `special` the tokens it may name, such as `bos_token`.
    ///
    /// # Errors
    /// If the template has a syntax error.
    pub fn new(source: &str, file: &str, special: BTreeMap<String, String>) -> Result<Self, TextError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs() as f64);
        let environment = jinja::environment(source, now).map_err(|error| TextError::Syntax {
            file: file.to_owned(),
            line: error.line().unwrap_or(0),
            reason: reason(&error),
        })?;
        Ok(Self { environment, special, source: source.to_owned(), file: file.to_owned() })
    }

    /// The same template at another time, given in seconds since 1970 (UTC).
    ///
    /// Templates may print the date (`strftime_now`); a run that is resumed on another day must see the day it began.
    ///
    /// # Errors
    /// None that [`ChatTemplate::new`] did not already report.
    pub fn at(self, seconds: f64) -> Result<Self, TextError> {
        let environment = jinja::environment(&self.source, seconds).map_err(|error| self.failure(&error))?;
        Ok(Self { environment, ..self })
    }

    /// Whether the rendered text may depend on the day.
    pub fn is_dated(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// If the template refuses it or fails on it.
    pub fn render(&self, messages: &[&Message], generation: Generation) -> Result<String, TextError> {
        let mut variables: BTreeMap<String, Value> =
            self.special.iter().map(|(name, token)| (name.clone(), Value::from(token))).collect();
        let messages: Vec<Value> = messages.iter().map(|message| Value::from(Serde(message.fields()))).collect();
        variables.insert("messages".to_owned(), messages.into());
        variables.insert("tools".to_owned(), Value::from(()));
        variables.insert("documents".to_owned(), Value::from(()));
        variables.insert("add_generation_prompt".to_owned(), (generation == Generation::Prompted).into());
        let template = self.environment.get_template(jinja::NAME).map_err(|error| self.failure(&error))?;
        template.render(Value::from(variables)).map_err(|error| self.failure(&error))
    }

    /// What the response adds to a prompt rendered by [`ChatTemplate::render`] with [`Generation::Prompted`]: its text, the end of the turn,
    /// and whatever else the template writes there. All of it is trained on.
    ///
    /// # Errors
    /// If the rendered conversation does not begin with the rendered prompt.
    pub fn response(&self, rendered: &str, prompt: &[Message], response: &[Message]) -> Result<String, TextError> {
        let messages: Vec<&Message> = prompt.iter().chain(response).collect();
        let full = self.render(&messages, Generation::Finished)?;
        match full.strip_prefix(rendered) {
            Some(text) => Ok(text.to_owned()),
            None => Err(self.departure(rendered, &full)),
        }
    }

    fn departure(&self, prompt: &str, full: &str) -> TextError {
        let same = prompt.chars().zip(full.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>();
        TextError::NotPrefix {
            file: self.file.clone(),
            common: tail(&prompt[..same]),
            alone: excerpt(&prompt[same..]),
            followed: excerpt(&full[same..]),
        }
    }

    fn failure(&self, error: &Error) -> TextError {
        TextError::Render { file: self.file.clone(), line: error.line().unwrap_or(0), reason: reason(error) }
    }
}

/// The template of `tokenizer_config.json`, if the file exists and names one.
fn configured(file: &Path) -> Result<Option<String>, TextError> {
    if !fs::exists(file).unwrap_or(false) {
        return Ok(None);
    }
    let fault = |reason: &str| TextError::Setting {
        file: file.display().to_string(),
        field: "chat_template".to_owned(),
        reason: reason.to_owned(),
    };
    match settings(file)?.remove("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(source)) => Ok(Some(source)),
        Some(serde_json::Value::Array(named)) => {
            let default = named.iter().find(|entry| entry["name"] == "default").and_then(|entry| entry["template"].as_str());
            default.map(|source| Some(source.to_owned())).ok_or_else(|| {
                fault("none of the named templates is called \"default\"; write the one to use into chat_template.jinja")
            })
        }
        Some(_) => Err(fault("must be a text or a list of objects with name and template")),
    }
}

/// What an error of the engine says, its causes included, without the engine's name for the template.
fn reason(error: &Error) -> String {
    let mut text = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::message::Role;
    use super::*;

    const CHATML: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}\
                          {% if add_generation_prompt %}<|assistant|>{% endif %}";

    fn template(source: &str) -> ChatTemplate {
        let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        ChatTemplate::new(source, "m/chat_template.jinja", special).unwrap()
    }

    fn response(source: &str, answer: &str) -> Result<String, TextError> {
        let template = template(source);
        let (prompt, response) = (vec![Message::new(Role::User, "hi")], vec![Message::new(Role::Assistant, answer)]);
        let rendered = template.render(&prompt.iter().collect::<Vec<_>>(), Generation::Prompted)?;
        template.response(&rendered, &prompt, &response)
    }

    #[test]
    fn the_response_is_what_the_prompt_lacks() {
        assert_eq!(response(CHATML, "ho").unwrap(), "ho<|end|>\n");
        assert_eq!(response(CHATML, "").unwrap(), "<|end|>\n");
    }

    #[test]
    fn special_tokens_are_variables() {
        assert_eq!(template("{{ bos_token }}{{ eos_token }}").render(&[], Generation::Finished).unwrap(), "<s>");
    }

    #[test]
    fn a_template_that_rewrites_the_prompt_is_refused() {
        let error = response("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", "ho").unwrap_err();
        assert!(error.to_string().contains("after \"\" the prompt goes on \"1hi\", the conversation \"2hiho\""), "{error}");
    }

    #[test]
    fn errors_name_the_line_of_the_template() {
        let error = ChatTemplate::new("a\n{% if %}", "m/t.jinja", BTreeMap::new()).unwrap_err();
        assert!(error.to_string().starts_with("m/t.jinja, line 2: the chat template has a syntax error"), "{error}");
        let error = response("\n\n{{ raise_exception('no ' + messages[0].role) }}", "ho").unwrap_err();
        let expected = "m/chat_template.jinja, line 3: the chat template fails on these messages: no user";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_date_can_be_pinned() {
        let template = template("{{ strftime_now('%Y-%m-%d') }}");
        assert!(template.is_dated());
        assert_eq!(template.at(86_400.0).unwrap().render(&[], Generation::Finished).unwrap(), "1970-01-02");
    }

    #[test]
    fn of_named_templates_the_default_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokenizer_config.json");
        let mut named = json!({"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]});
        fs::write(&file, named.to_string()).unwrap();
        let loaded = ChatTemplate::load(directory.path(), &BTreeMap::new()).unwrap().unwrap();
        assert_eq!(loaded.render(&[], Generation::Finished).unwrap(), "d");
        named["chat_template"].as_array_mut().unwrap().pop();
        fs::write(&file, named.to_string()).unwrap();
        let error = ChatTemplate::load(directory.path(), &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("none of the named templates is called \"default\""), "{error}");
    }

    #[test]
    fn the_template_file_goes_before_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        assert!(ChatTemplate::load(directory.path(), &BTreeMap::new()).unwrap().is_none());
        fs::write(directory.path().join("tokenizer_config.json"), r#"{"chat_template": "c"}"#).unwrap();
        fs::write(directory.path().join("chat_template.jinja"), "j").unwrap();
        let loaded = ChatTemplate::load(directory.path(), &BTreeMap::new()).unwrap().unwrap();
        assert_eq!(loaded.render(&[], Generation::Finished).unwrap(), "j");
    }
}
