//! The Jinja environment of chat templates: what `transformers` sets up around them, on minijinja.

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::filters::datetimeformat;
use minijinja_contrib::pycompat::unknown_method_callback;

use super::json::{Ascii, Keys, Layout};

/// The name templates get in the environment; messages name the file instead.
pub(super) const NAME: &str = "chat_template";

/// An environment that holds one template. `now` is what `strftime_now` sees, in seconds since 1970, read as UTC.
pub(super) fn environment(source: &str, now: f64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |state: &State, format: String| strftime(state, now, &format));
    environment.add_template_owned(NAME, prepare(source))?;
    Ok(environment)
}

/// Newlines as Jinja2 normalises them, and `{% generation %}` blocks, which only mark the model's turns, as blocks that always run.
fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(open) = rest.find("{%") {
        let Some(length) = rest[open..].find("%}") else { break };
        let (text, tag) = (&rest[..open], &rest[open..open + length + 2]);
        prepared.push_str(text);
        prepared.push_str(&without_generation(tag));
        rest = &rest[open + length + 2..];
    }
    prepared.push_str(rest);
    prepared
}

fn without_generation(tag: &str) -> Cow<'_, str> {
    let name = tag[2..tag.len() - 2].trim_matches(['-', '+']).trim();
    match name {
        "generation" => tag.replacen(name, "if true", 1).into(),
        "endgeneration" => tag.replacen(name, "endif", 1).into(),
        _ => tag.into(),
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime(state: &State, now: f64, format: &str) -> Result<String, Error> {
    datetimeformat(state, Value::from(now), Kwargs::from_iter([("format", Value::from(format))]))
}

fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let mut layout = Layout::new(indent(options.get("indent")?)?);
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        layout.ascii = Ascii::Escape;
    }
    if options.get::<Option<bool>>("sort_keys")? == Some(true) {
        layout.keys = Keys::Sorted;
    }
    if let Some(separators) = options.get::<Option<Vec<String>>>("separators")? {
        let [item, key] = <[String; 2]>::try_from(separators)
            .map_err(|_| Error::new(ErrorKind::InvalidOperation, "tojson: separators are a pair, such as (',', ':')"))?;
        (layout.item_separator, layout.key_separator) = (item, key);
    }
    options.assert_all_used()?;
    let value =
        serde_json::to_value(&value).map_err(|error| Error::new(ErrorKind::BadSerialization, format!("tojson: {error}")))?;
    Ok(layout.write(&value))
}

/// Python takes a number of spaces or the indentation itself.
fn indent(given: Option<Value>) -> Result<Option<String>, Error> {
    match given {
        None => Ok(None),
        Some(value) if value.is_none() || value.is_undefined() => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Ok(Some(" ".repeat(usize::try_from(value)?))),
        },
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn check(source: &str, expected: &str) {
        let context = context! { xs => vec![1, 2, 3], tool => Value::from(minijinja::value::Serde(serde_json::json!({"z": "<é>", "a": 1}))) };
        let environment = environment(source, 1_753_488_000.0).unwrap();
        assert_eq!(environment.get_template(NAME).unwrap().render(context).unwrap(), expected, "{source}");
    }

    /// Expected texts come from transformers' own Jinja environment.
    #[test]
    fn templates_mean_what_transformers_takes_them_to_mean() {
        check("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc");
        check("{% for x in xs %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "13");
        check("{% for x in xs %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "1");
        check("{{ tool | tojson }}", "{\"z\": \"<é>\", \"a\": 1}");
        check("{{ tool | tojson(indent=2) }}", "{\n  \"z\": \"<é>\",\n  \"a\": 1\n}");
        check("{{ tool | tojson(separators=(',', ':'), sort_keys=true) }}", "{\"a\":1,\"z\":\"<é>\"}");
        check("{{ ' ab '.strip() }}|{{ 'x-y'.split('-')[-1] }}|{{ 'abc'.startswith('ab') }}", "ab|y|True");
        check("{% for k, v in tool.items() %}{{ k }}={{ v }};{% endfor %}", "z=<é>;a=1;");
        check("{% set ns = namespace(n=0) %}{% for x in xs %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", "6");
        check("{{ strftime_now('%d %b %Y') }}", "26 Jul 2025");
        check("{{ xs[::-1] | join(',') }}|{{ missing }}|{{ 'a' ~ 1 }}", "3,2,1||a1");
        check("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('y') }}", "<y>");
    }

    #[test]
    fn generation_blocks_only_mark() {
        check("a{% generation %}b{% endgeneration %}c", "abc");
        check("a {%- generation -%} b {%- endgeneration -%} c", "abc");
        check("{{ '{% generation %}' }}", "{% if true %}");
    }

    #[test]
    fn carriage_returns_in_a_template_are_newlines() {
        check("{% if true %}\r\nx\r\n{% endif %}\r\n", "x\n");
    }

    #[test]
    fn a_template_may_refuse() {
        let environment = environment("\n{{ raise_exception('roles must alternate') }}", 0.0).unwrap();
        let error = environment.get_template(NAME).unwrap().render(context! {}).unwrap_err();
        assert_eq!((error.line(), error.detail()), (Some(2), Some("roles must alternate")));
    }
}
