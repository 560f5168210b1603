//! Where a setting comes from: the command line beats the environment, the environment beats the file.
//!
//! All three are brought into one form, flag name → values as text, so that each value is checked once and the error always names the
//! flag. Example: `--replicas 5` on the command line and `RINGTIDE_REPLICAS=3` give `5`; an environment with
//! `RINGTIDE_REPLICAS=many` alone gives `--replicas (from RINGTIDE_REPLICAS): 'many' is not a whole number from 1 to 16`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

/// Flags that a configuration file may hold.
const IN_FILE: [&str; 18] = [
    "data-dir",
    "cluster",
    "secret-file",
    "listen",
    "bootstrap",
    "no-mdns",
    "resp",
    "http",
    "replicas",
    "partitions",
    "zone",
    "capacity",
    "rebuild-after",
    "scrub-period",
    "durability",
    "memory",
    "log",
    "log-format",
];
/// Further flags that the environment may hold.
const IN_ENVIRONMENT_ONLY: [&str; 4] = ["config", "secret", "peers", "json"];
/// Flags that may be given several times.
const REPEATABLE: [&str; 2] = ["listen", "bootstrap"];

/// Where a value was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    CommandLine,
    Environment,
    File(String),
}

/// A setting that is wrong: the sentence that the user gets, together with exit code 2. Nothing was touched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wrong {
    flag: String,
    source: Source,
    reason: String,
}

impl Wrong {
    /// A wrong value of a flag that has nothing to do with one place.
    pub(crate) fn new(flag: &str, reason: impl fmt::Display) -> Self {
        Self { flag: flag.to_owned(), source: Source::CommandLine, reason: reason.to_string() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A newline in a value must not break the one sentence into several.
        let reason = self.reason.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"");
        match &self.source {
            Source::CommandLine => write!(f, "--{}: {reason}", self.flag),
            Source::Environment if self.flag == "secret" => write!(f, "--secret-file (from RINGTIDE_SECRET): {reason}"),
            Source::Environment => write!(f, "--{} (from {}): {reason}", self.flag, variable(&self.flag)),
            Source::File(path) => write!(f, "--{} (from {path}): {reason}", self.flag),
        }
    }
}

/// The environment variable of a flag.
fn variable(flag: &str) -> String {
    format!("RINGTIDE_{}", flag.to_uppercase().replace('-', "_"))
}

type Values = BTreeMap<String, Vec<String>>;

/// All that was given, most important first.
#[derive(Debug)]
pub(crate) struct Layers(Vec<(Source, Values)>);

/// A value and where it was found.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    flag: &'a str,
    source: &'a Source,
    /// The values; at least one.
    pub(crate) values: &'a [String],
}

impl Given<'_> {
    /// The error of this value.
    pub(crate) fn wrong(&self, reason: impl fmt::Display) -> Wrong {
        Wrong { flag: self.flag.to_owned(), source: self.source.clone(), reason: reason.to_string() }
    }

    /// Whether it was given under this name.
    pub(crate) fn is(&self, flag: &str) -> bool {
        self.flag == flag
    }

    /// The value of a flag that is given once.
    pub(crate) fn value(&self) -> &str {
        self.values.first().map_or("", String::as_str)
    }
}

impl Layers {
    /// Brings command line, environment and the file that `config` names into one form.
    pub(crate) fn new(
        typed: Vec<(&str, Vec<String>)>,
        environment: impl Fn(&str) -> Option<OsString>,
        read_file: impl Fn(&Path) -> std::io::Result<String>,
    ) -> Result<Self, Wrong> {
        let typed = typed.into_iter().filter(|(_, values)| !values.is_empty()).map(|(flag, values)| (flag.to_owned(), values)).collect();
        let mut layers = Self(vec![(Source::CommandLine, typed), (Source::Environment, from_environment(environment)?)]);
        if let Some(given) = layers.find("config") {
            let path = given.value().to_owned();
            let text = read_file(Path::new(&path)).map_err(|error| given.wrong(format!("'{path}' cannot be read: {error}")))?;
            let table = text
                .parse::<toml::Table>()
                .map_err(|error| given.wrong(format!("'{path}' is not a TOML file: {}", place_of(&error, &text))))?;
            let values = from_table(table, &path)?;
            layers.0.push((Source::File(path), values));
        }
        Ok(layers)
    }

    /// What was given for a flag, from the most important place that has it.
    pub(crate) fn find<'a>(&'a self, flag: &'a str) -> Option<Given<'a>> {
        self.0.iter().find_map(|(source, values)| values.get(flag).map(|values| Given { flag, source, values }))
    }

    /// As [`Layers::find`], for two flags that mean the same thing: the more important place wins; both in one place is an error.
    pub(crate) fn find_either<'a>(&'a self, one: &'a str, other: &'a str) -> Result<Option<Given<'a>>, Wrong> {
        for (source, values) in &self.0 {
            match (values.get(one), values.get(other)) {
                (Some(values), Some(_)) => {
                    let reason = format!("{} is set as well, and only one of them may be", variable(other));
                    return Err(Given { flag: one, source, values }.wrong(reason));
                }
                (Some(values), None) => return Ok(Some(Given { flag: one, source, values })),
                (None, Some(values)) => return Ok(Some(Given { flag: other, source, values })),
                (None, None) => {}
            }
        }
        Ok(None)
    }

    /// The value of a flag, checked.
    pub(crate) fn parse<T>(&self, flag: &str, check: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Wrong> {
        self.find(flag).map(|given| check(given.value()).map_err(|reason| given.wrong(reason))).transpose()
    }

    /// The values of a repeatable flag, each checked.
    pub(crate) fn parse_all<T>(&self, flag: &str, check: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Wrong> {
        let Some(given) = self.find(flag) else { return Ok(Vec::new()) };
        given.values.iter().map(|value| check(value).map_err(|reason| given.wrong(reason))).collect()
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, flag: &str) -> Result<bool, Wrong> {
        let on = self.parse(flag, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("'{text}' is neither true nor false")),
        })?;
        Ok(on.unwrap_or(false))
    }

    /// A whole number within bounds.
    pub(crate) fn number(&self, flag: &str, bounds: RangeInclusive<u64>) -> Result<Option<u64>, Wrong> {
        self.parse(flag, |text| {
            text.parse()
                .ok()
                .filter(|number| bounds.contains(number))
                .ok_or_else(|| format!("'{text}' is not a whole number from {} to {}", bounds.start(), bounds.end()))
        })
    }
}

fn from_environment(environment: impl Fn(&str) -> Option<OsString>) -> Result<Values, Wrong> {
    let mut values = Values::new();
    for flag in IN_FILE.into_iter().chain(IN_ENVIRONMENT_ONLY) {
        let Some(value) = environment(&variable(flag)) else { continue };
        let text = value.into_string().map_err(|_| Wrong {
            flag: flag.to_owned(),
            source: Source::Environment,
            reason: "it is not valid UTF-8".to_owned(),
        })?;
        let list = if REPEATABLE.contains(&flag) { text.split(',').map(|part| part.trim().to_owned()).collect() } else { vec![text] };
        values.insert(flag.to_owned(), list);
    }
    Ok(values)
}

fn from_table(table: toml::Table, path: &str) -> Result<Values, Wrong> {
    let mut values = Values::new();
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let wrong = |reason: String| Wrong { flag: flag.clone(), source: Source::File(path.to_owned()), reason };
        if !IN_FILE.contains(&flag.as_str()) {
            return Err(wrong("there is no such setting".to_owned()));
        }
        let list = match value {
            toml::Value::Array(items) if REPEATABLE.contains(&flag.as_str()) => {
                items.into_iter().map(|item| plain(item).ok_or_else(|| wrong("it is not a list of texts".to_owned()))).collect()
            }
            single => plain(single).map(|text| vec![text]).ok_or_else(|| wrong("it is not a single value".to_owned())),
        }?;
        if list.is_empty() {
            continue;
        }
        if values.insert(flag.clone(), list).is_some() {
            return Err(wrong("it is there twice".to_owned()));
        }
    }
    Ok(values)
}

fn plain(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        _ => None,
    }
}

/// The message of a TOML error in one line.
fn place_of(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    match line {
        Some(line) => format!("line {line}: {}", error.message()),
        None => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(typed: &[(&str, &str)], environment: &[(&str, &str)], file: &str) -> Result<Layers, Wrong> {
        let typed = typed.iter().map(|(flag, value)| (*flag, vec![(*value).to_owned()])).collect();
        let find = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Layers::new(typed, find, |_| Ok(file.to_owned()))
    }

    #[test]
    fn the_command_line_beats_the_environment_and_that_beats_the_file() {
        let environment = [("RINGTIDE_ZONE", "environment"), ("RINGTIDE_CLUSTER", "environment")];
        let file = "zone = 'file'\ncluster = 'file'\ndata_dir = '/file'";
        let layers = layers(&[("zone", "typed"), ("config", "f")], &environment, file).unwrap();
        assert_eq!(layers.find("zone").unwrap().value(), "typed");
        assert_eq!(layers.find("cluster").unwrap().value(), "environment");
        assert_eq!(layers.find("data-dir").unwrap().value(), "/file");
        assert!(layers.find("memory").is_none());
    }

    #[test]
    fn a_list_is_replaced_as_a_whole() {
        let environment = [("RINGTIDE_LISTEN", "/ip4/1.2.3.4/tcp/1, /ip4/1.2.3.4/tcp/2"), ("RINGTIDE_CONFIG", "f")];
        let layers = layers(&[], &environment, "listen = ['/x']\nbootstrap = ['/a', '/b']").unwrap();
        assert_eq!(layers.find("listen").unwrap().values, ["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/2"]);
        assert_eq!(layers.find("bootstrap").unwrap().values, ["/a", "/b"]);
    }

    #[test]
    fn a_wrong_value_names_its_flag_and_where_it_came_from() {
        let check = |typed: &[(&str, &str)], environment: &[(&str, &str)], file: &str| {
            layers(typed, environment, file).and_then(|layers| layers.number("replicas", 1..=16)).unwrap_err().to_string()
        };
        assert_eq!(check(&[("replicas", "0")], &[], ""), "--replicas: '0' is not a whole number from 1 to 16");
        let environment = check(&[], &[("RINGTIDE_REPLICAS", "many")], "");
        assert_eq!(environment, "--replicas (from RINGTIDE_REPLICAS): 'many' is not a whole number from 1 to 16");
        let file = check(&[("config", "f.toml")], &[], "replicas = 99");
        assert_eq!(file, "--replicas (from f.toml): '99' is not a whole number from 1 to 16");
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_refused() {
        let refused = |file: &str| layers(&[("config", "f.toml")], &[], file).unwrap_err().to_string();
        assert_eq!(refused("replica = 3"), "--replica (from f.toml): there is no such setting");
        assert_eq!(refused("replicas = [3]"), "--replicas (from f.toml): it is not a single value");
        assert_eq!(refused("data-dir = 'a'\ndata_dir = 'b'"), "--data-dir (from f.toml): it is there twice");
        assert!(refused("replicas = 3\nzone =").starts_with("--config: 'f.toml' is not a TOML file: line 2: "));
        assert!(!refused("a = \n b").contains('\n'));
        let unreadable = Layers::new(vec![("config", vec!["f".into()])], |_| None, |_| Err(std::io::ErrorKind::NotFound.into()));
        assert_eq!(unreadable.unwrap_err().to_string(), "--config: 'f' cannot be read: entity not found");
    }

    #[test]
    fn of_two_names_for_one_thing_one_may_be_given() {
        let both = layers(&[], &[("RINGTIDE_SECRET", "x"), ("RINGTIDE_SECRET_FILE", "y")], "").unwrap();
        let error = both.find_either("secret-file", "secret").unwrap_err().to_string();
        assert_eq!(error, "--secret-file (from RINGTIDE_SECRET_FILE): RINGTIDE_SECRET is set as well, and only one of them may be");
        let flag = layers(&[("secret-file", "typed")], &[("RINGTIDE_SECRET", "x")], "").unwrap();
        assert_eq!(flag.find_either("secret-file", "secret").unwrap().unwrap().value(), "typed");
    }
}
