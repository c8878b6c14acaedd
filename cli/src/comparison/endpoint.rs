//! A judge behind an API: a language model at an OpenAI-compatible endpoint.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::{Map, Value, json};

use super::error::JudgeError;
use crate::text::excerpt;

/// Tries of one question: with the pauses between them a minute, for limits count by the minute.
const TRIES: u32 = 8;
/// The pause after the first try; each is twice as long as the one before, unless the server names one.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What another try may mend, besides all failures of the server itself; as OpenAI's client has it.
const PASSING: [StatusCode; 3] = [StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS];
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whom to ask.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Where the API begins, such as `http://localhost:8000/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Further fields of requests, as a JSON object; null takes a field out.
    pub request: Option<String>,
    /// Sent as a bearer token.
    pub key: Option<String>,
}

/// A language model that is asked over HTTP.
#[derive(Debug)]
pub struct Endpoint {
    client: Client,
    url: Url,
    model: String,
    fields: Map<String, Value>,
    reached: AtomicBool,
}

/// Why a try gave no reply.
enum Failure {
    /// Another will not either.
    Final(JudgeError),
    /// Another might, after a pause.
    Passing { reason: String, pause: Option<Duration> },
}

impl Endpoint {
    /// Prepares to ask; asks nothing.
    ///
    /// # Errors
    /// If the address, the fields or the key cannot be used.
    pub fn new(options: EndpointOptions) -> Result<Self, JudgeError> {
        // That another was installed before is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = address(&options.url)?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &options.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| JudgeError::Key)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder().default_headers(headers).connect_timeout(Duration::from_secs(20)).timeout(PATIENCE);
        // Without encryption no certificates are needed, which a bare machine may not have.
        let client = if url.scheme() == "http" { client.tls_certs_only([]) } else { client };
        let client = client.build().map_err(|error| JudgeError::Encryption { reason: causes(error) })?;
        let fields = fields(&options)?;
        Ok(Self { client, url, model: options.model, fields, reached: AtomicBool::new(false) })
    }

    /// What tells its replies from those of others: model and settings, wherever it is.
    pub fn identity(&self) -> String {
        Value::Object(self.fields.clone()).to_string()
    }

    /// The address, fit to be printed.
    fn shown(&self) -> String {
        let mut url = self.url.clone();
        // An address that cannot have a password has none.
        let _ = url.set_password(None);
        url.to_string()
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Asks, several times where that may help.
    ///
    /// # Errors
    /// If the judge refuses, or cannot be reached.
    pub async fn reply(&self, question: &str) -> Result<String, JudgeError> {
        let mut pause = PAUSE;
        for tries in 1.. {
            match self.ask(question).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing { reason, .. }) if tries == TRIES || !self.reached.load(Ordering::Relaxed) => {
                    return Err(JudgeError::Silent { url: self.shown(), tries, reason });
                }
                Err(Failure::Passing { pause: asked, .. }) => tokio::time::sleep(asked.unwrap_or(pause)).await,
            }
            pause *= 2;
        }
        unreachable!("the last try returns")
    }

    async fn ask(&self, question: &str) -> Result<String, Failure> {
        let mut body = self.fields.clone();
        body.insert("messages".to_owned(), json!([{"role": "user", "content": question}]));
        let passing = |error: reqwest::Error| Failure::Passing { reason: causes(error), pause: None };
        let response = self.client.post(self.url.clone()).json(&body).send().await.map_err(passing)?;
        self.reached.store(true, Ordering::Relaxed);
        let (status, pause) = (response.status(), pause(&response));
        let text = response.text().await.map_err(passing)?;
        if PASSING.contains(&status) || status.is_server_error() {
            return Err(Failure::Passing { reason: format!("HTTP {}: {}", status.as_u16(), message(&text)), pause });
        }
        let refused = |message| JudgeError::Refused { url: self.shown(), status: status.as_u16(), message };
        if !status.is_success() {
            return Err(Failure::Final(refused(message(&text))));
        }
        let reply: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = &reply["choices"][0]["message"];
        if let Some(refusal) = said["refusal"].as_str().filter(|refusal| !refusal.is_empty()) {
            return Err(Failure::Final(refused(refusal.to_owned())));
        }
        content(said).ok_or_else(|| Failure::Final(refused(format!("no choices[0].message.content in {:?}", excerpt(&text)))))
    }
}

/// What a message says: its text, or the texts of its parts; nothing, of a model that ran out of tokens while it thought.
fn content(message: &Value) -> Option<String> {
    match &message["content"] {
        Value::String(content) => Some(content.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")),
        Value::Null if message.is_object() => Some(String::new()),
        _ => None,
    }
}

/// `BASE/chat/completions`, with the query that BASE may have.
fn address(given: &str) -> Result<Url, JudgeError> {
    let refuse = |reason: String| JudgeError::Address { url: given.to_owned(), reason };
    let mut url = Url::parse(given).map_err(|error| refuse(error.to_string()))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(refuse(format!("{} is neither http nor https", url.scheme())));
    }
    if !url.path().trim_end_matches('/').ends_with("/chat/completions") {
        let mut path = url.path_segments_mut().map_err(|()| refuse("it has no path".to_owned()))?;
        path.pop_if_empty().extend(["chat", "completions"]);
    }
    Ok(url)
}

/// What every request says: the model, a temperature of 0, and what was asked for.
fn fields(options: &EndpointOptions) -> Result<Map<String, Value>, JudgeError> {
    let mut fields = Map::new();
    fields.insert("model".to_owned(), options.model.as_str().into());
    fields.insert("temperature".to_owned(), 0.into());
    if let Some(given) = &options.request {
        let refuse = |reason: String| JudgeError::Request { given: given.clone(), reason };
        let own: Map<String, Value> = serde_json::from_str(given).map_err(|error| refuse(error.to_string()))?;
        if let Some(taken) = ["messages", "model", "stream"].into_iter().find(|taken| own.contains_key(*taken)) {
            return Err(refuse(format!("{taken} is not to be set here")));
        }
        fields.extend(own);
    }
    fields.retain(|_, value| !value.is_null());
    Ok(fields)
}

/// The pause that a server asks for, in seconds.
fn pause(response: &Response) -> Option<Duration> {
    let seconds: f64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|pause| pause.min(LONGEST_PAUSE))
}

/// What a server says is wrong.
fn message(text: &str) -> String {
    let error: Value = serde_json::from_str(text).unwrap_or_default();
    let said = [&error["error"]["message"], &error["message"], &error["detail"]].into_iter().find_map(Value::as_str);
    said.map_or_else(|| format!("{:?}", excerpt(text)), str::to_owned)
}

/// An error with what caused it.
fn causes(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str, request: Option<&str>) -> EndpointOptions {
        EndpointOptions { url: url.into(), model: "m".into(), request: request.map(str::to_owned), key: None }
    }

    #[test]
    fn addresses_are_completed() {
        for given in ["http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions"] {
            assert_eq!(address(given).unwrap().as_str(), "http://h:1/v1/chat/completions");
        }
        let azure = address("https://h/openai/d?api-version=2024").unwrap();
        assert_eq!(azure.as_str(), "https://h/openai/d/chat/completions?api-version=2024");
        for given in ["h:1/v1", "ftp://h/v1", "", "localhost"] {
            assert!(address(given).is_err(), "{given}");
        }
    }

    #[test]
    fn requests_take_further_fields() {
        let json = |request| Value::Object(fields(&options("http://h", request)).unwrap());
        assert_eq!(json(None), json!({"model": "m", "temperature": 0}));
        let request = "{\"temperature\": null, \"max_tokens\": 9}";
        assert_eq!(json(Some(request)), json!({"model": "m", "max_tokens": 9}));
        for wrong in ["[]", "{", "{\"messages\": []}", "{\"stream\": true}"] {
            assert!(fields(&options("http://h", Some(wrong))).is_err(), "{wrong}");
        }
    }

    #[test]
    fn replies_may_come_in_parts_or_be_empty() {
        assert_eq!(content(&json!({"content": "A"})).as_deref(), Some("A"));
        let parts = json!({"content": [{"type": "thinking"}, {"type": "text", "text": "so"}, {"type": "text", "text": "B"}]});
        assert_eq!(content(&parts).as_deref(), Some("so\nB"));
        assert_eq!(content(&json!({"content": null})).as_deref(), Some(""));
        assert_eq!(content(&json!(null)), None);
    }

    #[test]
    fn a_key_must_be_fit_for_a_header() {
        let endpoint = Endpoint::new(EndpointOptions { key: Some("a\nb".into()), ..options("http://h", None) });
        assert!(matches!(endpoint, Err(JudgeError::Key)));
    }
}
