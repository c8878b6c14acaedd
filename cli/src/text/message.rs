//! Chat messages as data sets and templates know them: JSON objects with a role and content.

use serde_json::{Map, Value};

use super::error::excerpt;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions to the model.
    System,
    /// The newer name of some models for `system`.
    Developer,
    /// The person.
    User,
    /// The model: what is trained on.
    Assistant,
    /// What a tool returned.
    Tool,
    /// The older name for `tool`.
    Function,
}

impl Role {
    const NAMES: [(&'static str, Role); 6] = [
        ("system", Role::System),
        ("developer", Role::Developer),
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("tool", Role::Tool),
        ("function", Role::Function),
    ];

    fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role)
    }

    /// The name data sets use.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, role)| *role == self).map_or("", |(name, _)| name)
    }
}

/// What is wrong with a chat message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    /// Not an object.
    #[error("message {position} is {found}, but a message is an object such as {{\"role\": \"user\", \"content\": \"…\"}}")]
    NoObject {
        /// Place among the messages, from 0.
        position: usize,
        /// What stands there.
        found: String,
    },
    /// `role` is absent or no string.
    #[error(
        "message {position} has no role (its keys: {keys}); a message is an object such as {{\"role\": \"user\", \"content\": \"…\"}}"
    )]
    NoRole {
        /// Place among the messages, from 0.
        position: usize,
        /// The keys it has.
        keys: String,
    },
    /// A role no template knows.
    #[error(
        "message {position} has the unknown role {role:?}; roles are system, developer, user, assistant, tool and function{hint}"
    )]
    UnknownRole {
        /// Place among the messages, from 0.
        position: usize,
        /// The role found.
        role: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// `content` is absent or neither text nor parts.
    #[error(
        "message {position} ({role}) has {found} as content; content is a string, or a list of parts like {{\"type\": \"text\", \"text\": \"…\"}}"
    )]
    Content {
        /// Place among the messages, from 0.
        position: usize,
        /// Who speaks.
        role: &'static str,
        /// What stands there.
        found: String,
    },
}

/// One chat message. Keys besides role and content (tool calls, reasoning) reach the template untouched.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    role: Role,
    fields: Map<String, Value>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, content: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("role".to_owned(), role.name().into());
        fields.insert("content".to_owned(), content.into());
        Self { role, fields }
    }

    /// Takes an object as a message. Keys whose value is null are dropped, as `transformers` does: Parquet cannot leave keys out.
    ///
    /// # Errors
    /// If it is no object, the role is unknown, or the content is neither text, parts, nor replaced by tool calls.
    pub fn parse(position: usize, value: Value) -> Result<Self, MessageFault> {
        let Value::Object(mut fields) = value else {
            return Err(MessageFault::NoObject { position, found: describe(&value) });
        };
        fields.retain(|_, value| !value.is_null());
        let role = role(position, &fields)?;
        match fields.get("content") {
            Some(Value::String(_)) => {}
            Some(Value::Array(parts)) if parts.iter().all(Value::is_object) => {}
            None if fields.contains_key("tool_calls") => {}
            other => {
                let found = other.map_or_else(|| "nothing".to_owned(), describe);
                return Err(MessageFault::Content { position, role: role.name(), found });
            }
        }
        Ok(Self { role, fields })
    }

    /// Takes a list of objects as a conversation.
    ///
    /// # Errors
    /// If one of them is no message.
    pub fn parse_all(values: Vec<Value>) -> Result<Vec<Self>, MessageFault> {
        values.into_iter().enumerate().map(|(position, value)| Self::parse(position, value)).collect()
    }

    /// Who speaks.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The content, if it is one text.
    pub fn text(&self) -> Option<&str> {
        self.fields.get("content").and_then(Value::as_str)
    }

    /// The content as a person reads it: its text, or the texts of its parts; whatever else it is, as JSON.
    pub fn readable(&self) -> String {
        match self.fields.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                let part = |part: &Value| part["text"].as_str().map_or_else(|| part.to_string(), str::to_owned);
                parts.iter().map(part).collect::<Vec<_>>().join("\n")
            }
            _ => Value::Object(self.fields.clone()).to_string(),
        }
    }

    /// Whether the message says nothing at all: no content and nothing in its place.
    pub fn is_silent(&self) -> bool {
        let empty = match self.fields.get("content") {
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(parts)) => parts.is_empty(),
            _ => true,
        };
        empty && self.fields.keys().all(|key| key == "role" || key == "content")
    }

    /// All keys and values, for templates.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}

fn role(position: usize, fields: &Map<String, Value>) -> Result<Role, MessageFault> {
    let Some(name) = fields.get("role").and_then(Value::as_str) else {
        let keys = fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(MessageFault::NoRole { position, keys });
    };
    Role::parse(name).ok_or_else(|| MessageFault::UnknownRole { position, role: excerpt(name), hint: hint(name) })
}

fn hint(name: &str) -> String {
    let lower = name.trim().to_lowercase();
    let near = match lower.as_str() {
        "human" => Some("user"),
        "gpt" | "bot" | "model" | "ai" => Some("assistant"),
        _ => Role::NAMES.iter().map(|(known, _)| *known).find(|known| strsim::damerau_levenshtein(known, &lower) <= 2),
    };
    near.map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

/// A JSON value in words, short enough for a message.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("the boolean {flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {:?}", excerpt(text)),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(fields) => {
            format!("an object with the keys {:?}", fields.keys().take(6).collect::<Vec<_>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_keys_are_dropped() {
        let message = Message::parse(0, json!({"role": "user", "content": "x", "tool_calls": null})).unwrap();
        assert_eq!(message, Message::new(Role::User, "x"));
    }

    #[test]
    fn content_may_be_replaced_by_tool_calls_only() {
        assert!(Message::parse(0, json!({"role": "assistant", "content": null, "tool_calls": [{}]})).is_ok());
        let fault = Message::parse(2, json!({"role": "assistant", "content": null})).unwrap_err();
        assert!(fault.to_string().starts_with("message 2 (assistant) has nothing as content"), "{fault}");
        let fault = Message::parse(0, json!({"role": "user", "content": 3})).unwrap_err();
        assert!(fault.to_string().contains("has the number 3 as content"), "{fault}");
    }

    #[test]
    fn unknown_roles_come_with_a_suggestion() {
        for (found, wanted) in [("gpt", "assistant"), ("human", "user"), ("asistant", "assistant"), ("Users", "user")] {
            let fault = Message::parse(1, json!({"role": found, "content": ""})).unwrap_err().to_string();
            assert!(fault.contains(&format!("unknown role {found:?}")), "{fault}");
            assert!(fault.ends_with(&format!("did you mean {wanted}?")), "{fault}");
        }
    }

    #[test]
    fn a_message_with_reasoning_or_calls_is_not_silent() {
        assert!(Message::new(Role::Assistant, "").is_silent());
        assert!(!Message::new(Role::Assistant, " ").is_silent());
        let message = Message::parse(0, json!({"role": "assistant", "content": "", "reasoning_content": "hm"})).unwrap();
        assert!(!message.is_silent());
    }
}
