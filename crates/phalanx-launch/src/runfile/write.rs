//! Run files as they are written: a key a line.

use toml::Value as Toml;

pub(super) fn write_entries(text: &mut String, entries: &mut Vec<(String, Toml)>) {
    for (key, value) in entries.drain(..) {
        *text += &format!("{} = {}\n", quoted(&key), one_line(&value));
    }
}

/// A free key of a registered model may need quotes.
fn quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_owned(),
        false => one_line(&Toml::String(key.to_owned())),
    }
}

/// The value on one line: `"a\nb"` rather than a multi-line string, so that a line is a key.
fn one_line(value: &Toml) -> String {
    match value {
        Toml::String(text) => basic_string(text),
        Toml::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        Toml::Table(table) if table.is_empty() => "{}".to_owned(),
        Toml::Table(table) => {
            let items = table.iter().map(|(key, item)| format!("{} = {}", quoted(key), one_line(item)));
            format!("{{ {} }}", items.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn basic_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                quoted += &format!("\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
