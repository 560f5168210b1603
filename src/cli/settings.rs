//! What was given means: text from the layers becomes checked settings, before anything is touched.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use libp2p::Multiaddr;

use super::flags::{AskFlags, LocalFlags, UpFlags};
use super::layers::{Given, Layers, Wrong};
use super::logging::{self, LogFormat};
use super::machine;
use crate::config::{self, Durability, NodeConfig};
use crate::embed::{Secret, Settings};

/// Where the Redis protocol is served, and asked for, when nothing else is said.
pub(crate) const DEFAULT_RESP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7379);
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7380);
/// Longest secret file that is read, in bytes: a key file named by mistake is still read whole, a disk image is not.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// How a peer is run by the program.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) peer: Settings,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) stop_with_stdin: bool,
}

/// How a cluster is run on this machine.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) peers: usize,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) log: String,
}

/// Whom to ask, and how to print the answer.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) resp: SocketAddr,
    pub(crate) json: bool,
}

/// Where settings are read from besides the command line; tests put their own in.
pub(crate) struct World<'a> {
    pub(crate) environment: &'a dyn Fn(&str) -> Option<OsString>,
    pub(crate) read_file: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl World<'_> {
    /// The real one.
    pub(crate) fn real() -> World<'static> {
        World { environment: &|name| std::env::var_os(name), read_file: &read_small_file }
    }
}

fn read_small_file(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let length = std::fs::File::open(path)?.take(MAX_SECRET_FILE + 1).read_to_string(&mut text)?;
    if length as u64 > MAX_SECRET_FILE {
        return Err(io::Error::other(format!("it is longer than {MAX_SECRET_FILE} bytes")));
    }
    Ok(text)
}

impl Up {
    /// Checks everything that was given for a peer.
    pub(crate) fn check(flags: UpFlags, world: &World<'_>) -> Result<Self, Wrong> {
        let stop_with_stdin = flags.stop_with_stdin;
        let layers = Layers::new(typed_up(flags), world.environment, world.read_file)?;
        let secret = secret(&layers, world)?;
        let protected = secret.is_none();
        let mut listen = layers.parse_all("listen", multiaddr)?;
        if listen.is_empty() {
            let everywhere = if protected { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
            listen.push(Multiaddr::from(everywhere).with(libp2p::multiaddr::Protocol::Tcp(0)));
        }
        let defaults = NodeConfig::default();
        let node = NodeConfig {
            cluster: layers.parse("cluster", name)?.unwrap_or(defaults.cluster.clone()),
            replicas: narrow(layers.number("replicas", 1..=config::MAX_REPLICAS as u64)?, defaults.replicas),
            partitions: narrow(layers.number("partitions", 1..=u64::from(config::MAX_PARTITIONS))?, defaults.partitions),
            zone: layers.parse("zone", name)?,
            capacity: narrow(layers.number("capacity", 1..=u64::from(config::MAX_CAPACITY))?, defaults.capacity),
            rebuild_after: layers.parse("rebuild-after", time)?.unwrap_or(defaults.rebuild_after),
            scrub_period: layers.parse("scrub-period", time)?.unwrap_or(defaults.scrub_period),
            durability: layers.parse("durability", durability)?.unwrap_or(defaults.durability),
            protected,
            ..defaults
        };
        let peer = Settings {
            data_dir: data_dir(&layers, world)?,
            secret,
            listen,
            bootstrap: layers.parse_all("bootstrap", multiaddr)?,
            mdns: !protected && !layers.is_on("no-mdns")?,
            resp: Some(layers.parse("resp", socket_address)?.unwrap_or(DEFAULT_RESP)),
            http: layers.parse("http", http_address)?.unwrap_or(Some(DEFAULT_HTTP)),
            memory_bytes: layers.parse("memory", memory)?.unwrap_or_else(machine::quarter_of_memory),
            node,
        };
        let log = layers.parse("log", logging::check_filter)?.unwrap_or_else(|| logging::DEFAULT_FILTER.to_owned());
        Ok(Self { peer, log, log_format: layers.parse("log-format", log_format)?.unwrap_or_default(), stop_with_stdin })
    }
}

impl Local {
    /// Checks everything that was given for a cluster on this machine.
    pub(crate) fn check(flags: LocalFlags, world: &World<'_>) -> Result<Self, Wrong> {
        let typed = vec![
            ("peers", flags.peers.into_iter().collect()),
            ("data-dir", flags.data_dir.into_iter().collect()),
            ("log", flags.log.into_iter().collect()),
        ];
        let layers = Layers::new(typed, world.environment, world.read_file)?;
        Ok(Self {
            peers: narrow(layers.number("peers", 1..=32)?, 3),
            data_dir: layers.parse("data-dir", path)?,
            log: layers.parse("log", logging::check_filter)?.unwrap_or_else(|| logging::LOCAL_FILTER.to_owned()),
        })
    }
}

impl Ask {
    /// Checks whom to ask.
    pub(crate) fn check(flags: AskFlags, world: &World<'_>) -> Result<Self, Wrong> {
        let typed = vec![
            ("resp", flags.resp.into_iter().collect()),
            ("json", flags.json.then(|| "true".to_owned()).into_iter().collect()),
            ("config", flags.config.into_iter().collect()),
        ];
        let layers = Layers::new(typed, world.environment, world.read_file)?;
        Ok(Self { resp: layers.parse("resp", socket_address)?.unwrap_or(DEFAULT_RESP), json: layers.is_on("json")? })
    }
}

fn typed_up(flags: UpFlags) -> Vec<(&'static str, Vec<String>)> {
    let one = |value: Option<String>| value.into_iter().collect();
    vec![
        ("data-dir", one(flags.data_dir)),
        ("cluster", one(flags.cluster)),
        ("secret-file", one(flags.secret_file)),
        ("listen", flags.listen),
        ("bootstrap", flags.bootstrap),
        ("no-mdns", one(flags.no_mdns.then(|| "true".to_owned()))),
        ("resp", one(flags.resp)),
        ("http", one(flags.http)),
        ("replicas", one(flags.replicas)),
        ("partitions", one(flags.partitions)),
        ("zone", one(flags.zone)),
        ("capacity", one(flags.capacity)),
        ("rebuild-after", one(flags.rebuild_after)),
        ("scrub-period", one(flags.scrub_period)),
        ("durability", one(flags.durability)),
        ("memory", one(flags.memory)),
        ("config", one(flags.config)),
        ("log", one(flags.log)),
        ("log-format", one(flags.log_format)),
    ]
}

/// A number that was checked against bounds which fit its type.
fn narrow<T: TryFrom<u64>>(number: Option<u64>, default: T) -> T {
    number.and_then(|number| T::try_from(number).ok()).unwrap_or(default)
}

fn secret(layers: &Layers, world: &World<'_>) -> Result<Option<Secret>, Wrong> {
    let Some(given) = layers.find_either("secret-file", "secret")? else { return Ok(None) };
    let text = if given.is("secret") { given.value().to_owned() } else { secret_file(&given, world)? };
    let long_enough = |text: &str| text.trim().chars().count() >= config::MIN_SECRET_CHARACTERS;
    if !long_enough(&text) {
        let shortest = config::MIN_SECRET_CHARACTERS;
        return Err(given.wrong(format!("the secret has {} characters, at least {shortest} are needed", text.trim().chars().count())));
    }
    Ok(Some(Secret::new(text.trim())))
}

fn secret_file(given: &Given<'_>, world: &World<'_>) -> Result<String, Wrong> {
    let path = given.value();
    (world.read_file)(Path::new(path)).map_err(|error| given.wrong(format!("'{path}' cannot be read: {error}")))
}

fn data_dir(layers: &Layers, world: &World<'_>) -> Result<PathBuf, Wrong> {
    if let Some(given) = layers.parse("data-dir", path)? {
        return Ok(given);
    }
    let folder = machine::data_folder(world.environment)
        .ok_or_else(|| Wrong::new("data-dir", "this user has no home folder to put the data into, so name a folder"))?;
    Ok(folder.join("ringtide"))
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("the name of the folder is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn name(text: &str) -> Result<String, String> {
    let longest = config::MAX_NAME;
    if text.is_empty() || text.len() > longest {
        return Err(format!("a name has 1 to {longest} bytes, and this one has {}", text.len()));
    }
    if text.chars().any(|letter| letter.is_control() || letter == '/') {
        return Err(format!("'{text}' holds a slash or a control character"));
    }
    Ok(text.to_owned())
}

fn multiaddr(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|error| format!("'{text}' is not a multiaddress (such as /ip4/127.0.0.1/tcp/4001): {error}"))
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| format!("'{text}' is not an address with a port (such as 127.0.0.1:7379)"))
}

fn http_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    socket_address(text).map(Some).map_err(|reason| format!("{reason}, nor 'off'"))
}

fn durability(text: &str) -> Result<Durability, String> {
    let longest = config::MAX_SYNC_INTERVAL_MS;
    match text {
        "always" => Ok(Durability::Always),
        "os" => Ok(Durability::System),
        _ => text
            .parse()
            .ok()
            .filter(|millis| (1..=longest).contains(millis))
            .map(|millis| Durability::Every(Duration::from_millis(millis)))
            .ok_or_else(|| format!("'{text}' is neither 'always' nor 'os' nor a number of milliseconds from 1 to {longest}")),
    }
}

/// A time with its unit, seconds without one; `never` and 0 are none.
fn time(text: &str) -> Result<Option<Duration>, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(60 * 60),
        "d" => Some(24 * 60 * 60),
        _ => None,
    };
    let longest = config::LONGEST_TIME;
    match (text, number.parse::<u64>().ok().zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds))) {
        ("never", _) | (_, Some(0)) => Ok(None),
        (_, Some(seconds)) if Duration::from_secs(seconds) <= longest => Ok(Some(Duration::from_secs(seconds))),
        _ => {
            Err(format!("'{text}' is neither 'never' nor a time of at most {} days (such as 90s, 10min or 2h)", longest.as_secs() / 86_400))
        }
    }
}

fn memory(text: &str) -> Result<u64, String> {
    let smallest = config::MIN_MEMORY;
    let size: ByteSize = text.parse().map_err(|_| format!("'{text}' is not a number of bytes (such as 512MiB)"))?;
    if size.as_u64() < smallest {
        return Err(format!("'{text}' is less than the smallest budget, {}", ByteSize(smallest).display().iec()));
    }
    Ok(size.as_u64())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("'{text}' is neither 'text' nor 'json'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(flags: UpFlags) -> Result<Up, String> {
        let read_file = |path: &Path| match path.to_str() {
            Some("secret") => Ok("  a secret of enough letters\n".to_owned()),
            Some("short") => Ok("fifteen letters\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        Up::check(flags, &World { environment: &|_| None, read_file: &read_file }).map_err(|wrong| wrong.to_string())
    }

    fn folder() -> UpFlags {
        UpFlags { data_dir: Some("/nowhere".to_owned()), ..UpFlags::default() }
    }

    #[test]
    fn defaults_are_those_that_the_help_names() {
        let up = up(folder()).unwrap();
        assert_eq!(up.peer.resp, Some("127.0.0.1:7379".parse().unwrap()));
        assert_eq!(up.peer.http, Some("127.0.0.1:7380".parse().unwrap()));
        assert_eq!(up.peer.node.cluster, "ringtide");
        assert_eq!((up.peer.node.replicas, up.peer.node.partitions, up.peer.node.capacity), (3, 256, 1));
        assert_eq!(up.peer.node.durability, Durability::Every(Duration::from_millis(50)));
        assert_eq!(Ok(up.peer.node.rebuild_after), time("10min"));
        assert_eq!(Ok(up.peer.node.scrub_period), time("24h"));
        assert!(up.peer.node.protected && !up.peer.mdns);
        assert_eq!(up.peer.listen, ["/ip4/127.0.0.1/tcp/0".parse::<Multiaddr>().unwrap()]);
        assert!(up.peer.memory_bytes >= config::MIN_MEMORY);
    }

    #[test]
    fn a_secret_opens_the_peer_to_the_network() {
        let flags = || UpFlags { secret_file: Some("secret".to_owned()), ..folder() };
        let open = up(flags()).unwrap();
        assert!(!open.peer.node.protected && open.peer.mdns);
        assert_eq!(open.peer.listen, ["/ip4/0.0.0.0/tcp/0".parse::<Multiaddr>().unwrap()]);
        assert!(!up(UpFlags { no_mdns: true, ..flags() }).unwrap().peer.mdns);
        assert!(!format!("{open:?}").contains("enough letters"), "a secret is never shown");
    }

    #[test]
    fn each_wrong_value_gets_one_sentence_that_names_its_flag() {
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (UpFlags { secret_file: some("short"), ..folder() }, "--secret-file: the secret has 15 characters"),
            (UpFlags { secret_file: some("none"), ..folder() }, "--secret-file: 'none' cannot be read"),
            (UpFlags { replicas: some("0"), ..folder() }, "--replicas: '0' is not a whole number from 1 to"),
            (UpFlags { partitions: some("70000"), ..folder() }, "--partitions: '70000' is not"),
            (UpFlags { capacity: some("-1"), ..folder() }, "--capacity: '-1' is not"),
            (UpFlags { durability: some("0"), ..folder() }, "--durability: '0' is neither"),
            (UpFlags { rebuild_after: some("1y"), ..folder() }, "--rebuild-after: '1y' is neither 'never' nor a time"),
            (UpFlags { scrub_period: some("400d"), ..folder() }, "--scrub-period: '400d' is neither 'never' nor a time"),
            (UpFlags { memory: some("lots"), ..folder() }, "--memory: 'lots' is not"),
            (UpFlags { memory: some("1KiB"), ..folder() }, "--memory: '1KiB' is less than"),
            (UpFlags { resp: some("7379"), ..folder() }, "--resp: '7379' is not an address"),
            (UpFlags { http: some("on"), ..folder() }, "--http: 'on' is not an address"),
            (UpFlags { listen: vec!["127.0.0.1:1".into()], ..folder() }, "--listen: '127.0.0.1:1' is not a multiaddress"),
            (UpFlags { bootstrap: vec!["/ip4/x".into()], ..folder() }, "--bootstrap: '/ip4/x' is not a multiaddress"),
            (UpFlags { cluster: some(""), ..folder() }, "--cluster: a name has 1 to"),
            (UpFlags { zone: some("a\nb"), ..folder() }, "--zone: 'a\\nb' holds"),
            (UpFlags { log: some("ringtide=loud"), ..folder() }, "--log: 'ringtide=loud' is not"),
            (UpFlags { log_format: some("xml"), ..folder() }, "--log-format: 'xml' is neither"),
            (UpFlags { data_dir: some(""), ..folder() }, "--data-dir: the name of the folder is empty"),
        ];
        for (flags, start) in cases {
            let sentence = up(flags).unwrap_err();
            assert!(sentence.starts_with(start) && !sentence.contains('\n'), "{sentence}");
        }
    }

    #[test]
    fn sizes_and_durabilities_are_read_as_written() {
        assert_eq!(memory("512MiB"), Ok(512 << 20));
        assert_eq!(memory("536870912"), Ok(512 << 20));
        let seconds = |text: &str| time(text).map(|time| time.map(|time| time.as_secs()));
        assert_eq!(["90s", "600", "10min", "2h", "1d"].map(seconds), [90, 600, 600, 7_200, 86_400].map(|seconds| Ok(Some(seconds))));
        assert_eq!(["never", "0", "0s"].map(time), [Ok(None), Ok(None), Ok(None)]);
        assert!(["", "min", "-1", "400d", "18446744073709551615d", "1.5h"].iter().all(|text| time(text).is_err()));
        assert_eq!(durability("always"), Ok(Durability::Always));
        assert_eq!(durability("os"), Ok(Durability::System));
        assert_eq!(durability("5"), Ok(Durability::Every(Duration::from_millis(5))));
        assert_eq!(http_address("off"), Ok(None));
        assert_eq!(socket_address("localhost:1"), Ok("127.0.0.1:1".parse().unwrap()));
    }
}
