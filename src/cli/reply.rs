//! What a peer answered, as a table for people or as JSON for programs.

use comfy_table::{Table, presets};
use redis::Value;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// An answer, freed from the protocol. Maps keep the order in which the peer told them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Reply {
    Nothing,
    Number(i64),
    Decimal(f64),
    Truth(bool),
    Text(String),
    List(Vec<Reply>),
    Map(Vec<(String, Reply)>),
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Int(number) => Self::Number(number),
            Value::BulkString(bytes) | Value::BigNumber(bytes) => Self::Text(text_of(bytes)),
            Value::Array(items) | Value::Set(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Self::Text(text),
            Value::Okay => Self::Text("OK".to_owned()),
            Value::Map(pairs) => Self::Map(pairs.into_iter().map(|(name, value)| (Self::from(name).line(), Self::from(value))).collect()),
            Value::Attribute { data, .. } => Self::from(*data),
            Value::Double(number) => Self::Decimal(number),
            Value::Boolean(truth) => Self::Truth(truth),
            _ => Self::Nothing,
        }
    }
}

/// Text as it is; other bytes with escapes, as redis-cli shows them.
fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string())
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_none(),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Decimal(number) => serializer.serialize_f64(*number),
            Self::Truth(truth) => serializer.serialize_bool(*truth),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => items.serialize(serializer),
            Self::Map(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (name, value) in pairs {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl Reply {
    /// The answer as JSON, with a line end.
    pub(crate) fn json(&self) -> String {
        // Nothing in a reply can fail to become JSON: its keys are texts.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The answer for people, with a line end.
    pub(crate) fn table(&self) -> String {
        let table = match self {
            Self::Map(pairs) => {
                let mut table = plain_table();
                for (name, value) in pairs {
                    table.add_row([name.clone(), value.block()]);
                }
                table
            }
            Self::List(items) if items.iter().any(|item| matches!(item, Self::Map(_))) => records(items),
            Self::List(items) if items.iter().any(|item| matches!(item, Self::List(_))) => {
                let mut table = plain_table();
                for (number, item) in items.iter().enumerate() {
                    table.add_row([number.to_string(), item.line()]);
                }
                table
            }
            other => return other.block() + "\n",
        };
        table.trim_fmt() + "\n"
    }

    /// A number in a map.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        let Self::Map(pairs) = self else { return None };
        pairs.iter().find_map(|(other, value)| match value {
            Self::Number(number) if other == name => Some(*number),
            _ => None,
        })
    }

    /// In one line, for a cell of a table.
    fn line(&self) -> String {
        match self {
            Self::Nothing => "-".to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Decimal(number) => number.to_string(),
            Self::Truth(truth) => if *truth { "yes" } else { "no" }.to_owned(),
            Self::Text(text) => text.clone(),
            Self::List(items) => items.iter().map(Self::line).collect::<Vec<_>>().join(" "),
            Self::Map(pairs) => pairs.iter().map(|(name, value)| format!("{name}: {}", value.line())).collect::<Vec<_>>().join(", "),
        }
    }

    /// In as many lines as there are items.
    fn block(&self) -> String {
        match self {
            Self::List(items) if items.iter().any(|item| matches!(item, Self::Map(_))) => records(items).trim_fmt(),
            Self::List(items) => items.iter().map(Self::line).collect::<Vec<_>>().join("\n"),
            Self::Map(pairs) => pairs.iter().map(|(name, value)| format!("{name}: {}", value.line())).collect::<Vec<_>>().join("\n"),
            single => single.line(),
        }
    }
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// Maps with the same names: a row each, the names as header.
fn records(items: &[Reply]) -> Table {
    let mut names: Vec<&String> = Vec::new();
    for item in items {
        let Reply::Map(pairs) = item else { continue };
        names.extend(pairs.iter().map(|(name, _)| name).filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    let mut table = plain_table();
    table.set_header(names.clone());
    for item in items {
        let cell = |name: &String| match item {
            Reply::Map(pairs) => pairs.iter().find(|(other, _)| other == name).map_or_else(String::new, |(_, value)| value.line()),
            other => other.line(),
        };
        table.add_row(names.iter().map(|name| cell(name)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn maps_become_objects_in_their_own_order() {
        let reply = Reply::from(Value::Map(vec![(text("up"), Value::Int(3)), (text("keys"), Value::Array(vec![text("a"), Value::Nil]))]));
        assert_eq!((reply.number("up"), reply.number("keys"), reply.number("down")), (Some(3), None, None));
        let json = reply.json();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), serde_json::json!({"up": 3, "keys": ["a", null]}));
        assert!(json.find("up") < json.find("keys"));
        assert!(reply.table().lines().next().unwrap().trim_end().ends_with('3'));
    }

    #[test]
    fn records_get_one_header() {
        let peer = |name: &str, up: i64| Value::Map(vec![(text("peer"), text(name)), (text("up"), Value::Int(up))]);
        let table = Reply::from(Value::Array(vec![peer("one", 1), peer("two", 22)])).table();
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [["peer", "up"], ["one", "1"], ["two", "22"]]);
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(Reply::from(Value::BulkString(vec![0xff, b'a'])), Reply::Text("\\xffa".to_owned()));
    }
}
