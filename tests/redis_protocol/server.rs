//! CLIENT, CONFIG, INFO and what else is about the server itself: replies and errors of Redis where they don't depend on the server,
//! and what the commands do.

use std::time::Duration;

use ringtide::server::resp::Options;
use tokio::time::Instant;

use super::differential::Redis;
use super::wire::{Client, Server, command};

/// Lines whose replies depend on nothing.
const CONVERSATION: &str = "
CONFIG GET notify-keyspace-events
CONFIG SET notify-keyspace-events KEA
CONFIG GET notify-keyspace-events
CONFIG SET notify-keyspace-events gxE
CONFIG GET notify-keyspace-events
CONFIG SET notify-keyspace-events q
CONFIG SET notify-keyspace-events AKEmn
CONFIG GET notify-keyspace-events
CONFIG SET notify-keyspace-events g$lshzxetdK
CONFIG GET notify-keyspace-events
CONFIG SET notify-keyspace-events 
CONFIG GET notify-keyspace-events
CONFIG SET notify-keyspace-events
CONFIG SET maxclients 0
CONFIG SET maxclients x
CONFIG SET timeout -1
CONFIG SET timeout 1 timeout 2
CONFIG SET timeout 1 foo 2
CONFIG SET timeout 0 slowlog-max-len 128
CONFIG SET slowlog-log-slower-than x
CONFIG SET slowlog-log-slower-than -2
CONFIG SET slowlog-max-len -2
CONFIG SET slowlog-log-slower-than -1
CONFIG GET slowlog-log-slower-than
CONFIG SET slowlog-log-slower-than 10000
CONFIG GET maxmemory
CONFIG GET client-output-buffer-limit
CONFIG SET databases 3
CONFIG REWRITE
CONFIG RESETSTAT
CONFIG RESETSTAT x
CONFIG HELP
CONFIG
CONFIG FOO
CLIENT HELP
COMMAND HELP
SLOWLOG HELP
LATENCY HELP
MEMORY HELP
CLIENT GETREDIR
CLIENT TRACKINGINFO
CLIENT TRACKING off
CLIENT TRACKING foo
CLIENT CACHING yes
CLIENT KILL foo
CLIENT KILL 1.1.1.1:1
CLIENT KILL ID 999999
CLIENT KILL ID x
CLIENT KILL ID 0
CLIENT KILL TYPE foo
CLIENT KILL TYPE pubsub
CLIENT KILL TYPE master
CLIENT KILL ID
CLIENT KILL USER nobody
CLIENT KILL USER default SKIPME foo
CLIENT KILL FOO bar
CLIENT KILL ID 999999 ADDR
CLIENT KILL LADDR 1.1.1.1:2 SKIPME yes
CLIENT KILL
CLIENT PAUSE x
CLIENT PAUSE -1
CLIENT PAUSE 1 FOO
CLIENT PAUSE 1 ALL x
CLIENT PAUSE 1
CLIENT PAUSE 1 write
CLIENT UNPAUSE
CLIENT UNPAUSE x
CLIENT REPLY FOO
CLIENT REPLY
CLIENT REPLY ON
CLIENT LIST TYPE foo
CLIENT LIST TYPE master
CLIENT LIST ID x
CLIENT LIST ID 999998 999999
CLIENT NO-EVICT foo
CLIENT NO-EVICT on
CLIENT NO-EVICT off
SLOWLOG GET -2
SLOWLOG GET x
SLOWLOG GET 1 2
SLOWLOG RESET
SLOWLOG LEN
SLOWLOG GET
SLOWLOG FOO
LATENCY LATEST
LATENCY HISTORY x
LATENCY RESET
LATENCY RESET x y
LATENCY GRAPH x
LATENCY HISTOGRAM none
MEMORY USAGE none
MEMORY USAGE none SAMPLES
MEMORY USAGE none SAMPLES x
MEMORY USAGE none FOO 1
MEMORY PURGE
LASTSAVE x
SAVE x
BGSAVE foo
TIME x
ROLE
ROLE x
SWAPDB 0 0
SWAPDB x 0
SWAPDB 0 x
SWAPDB 0 99
DEBUG JMAP
DEBUG
ACL WHOAMI
ACL WHOAMI x
ACL LIST
ACL USERS
ACL CAT
ACL CAT foo
ACL CAT pubsub x
ACL FOO
COMMAND GETKEYS GET a
COMMAND GETKEYS MSET a 1 b 2
COMMAND GETKEYS DEL a b c
COMMAND GETKEYS FOO x
COMMAND GETKEYS PING x
COMMAND GETKEYS GET a b
COMMAND GETKEYS GET
COMMAND GETKEYS
COMMAND GETKEYSANDFLAGS MGET a b
COMMAND GETKEYS ZUNION 2 a b WEIGHTS 1 2
COMMAND GETKEYS ZUNION 3 a b
COMMAND GETKEYS ZUNIONSTORE t 2 a b
COMMAND GETKEYS ZINTERCARD 1 a LIMIT 5
COMMAND GETKEYS SINTERCARD 2 a b LIMIT 5
COMMAND GETKEYS LMPOP 2 a b LEFT
COMMAND GETKEYS LMPOP x a b LEFT
COMMAND GETKEYS BLMPOP 0 2 a b LEFT
COMMAND GETKEYS ZMPOP 1 a MIN
COMMAND GETKEYS BZMPOP 0 2 a b MAX
COMMAND GETKEYS BLPOP a b 0
COMMAND GETKEYS SORT a
COMMAND GETKEYS SORT a BY b* GET c* STORE t
COMMAND GETKEYS GEORADIUS a 1 1 1 m
COMMAND GETKEYS GEORADIUS a 1 1 1 m COUNT 1 STORE t
COMMAND GETKEYS GEORADIUSBYMEMBER a m 1 m STOREDIST t
COMMAND GETKEYS SPUBLISH a message
COMMAND GETKEYS OBJECT ENCODING a
COMMAND GETKEYSANDFLAGS ZUNIONSTORE t 2 a b
COMMAND GETKEYSANDFLAGS SORT a STORE t
COMMAND GETKEYSANDFLAGS SET a 1
COMMAND GETKEYSANDFLAGS SET a 1 GET
COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 0
COMMAND GETKEYSANDFLAGS BITFIELD a SET u8 0 1
COMMAND GETKEYSANDFLAGS LMOVE a b LEFT RIGHT
COMMAND GETKEYSANDFLAGS PFCOUNT a b
COMMAND LIST FILTERBY FOO x
COMMAND LIST FILTERBY
COMMAND LIST FILTERBY PATTERN client|k*
COMMAND LIST FILTERBY MODULE none
COMMAND COUNT x
COMMAND FOO
COMMAND INFO publish unsubscribe client|kill client|pause acl|cat acl|list
EXEC x
MULTI
EXEC x
EXEC
";

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_about_itself_as_redis_does() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let mut differences = Vec::new();
    for protocol in ["2", "3"] {
        let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
        for client in [&mut ours, &mut theirs] {
            client.line(&format!("HELLO {protocol}"));
        }
        for line in CONVERSATION.lines().filter(|line| !line.is_empty()) {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let (our_reply, their_reply) = (ours.ask(&words), theirs.ask(&words));
            if our_reply != their_reply {
                let [ours, theirs] = [our_reply, their_reply].map(|reply| String::from_utf8_lossy(&reply).into_owned());
                differences.push(format!("{line}\n    {ours:?}\n    {theirs:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_killed_by_address_type_and_id() {
    let server = Server::start(Options::default()).await;
    let (mut killer, mut normal, mut listener) = (server.client(), server.client(), server.client());
    listener.line("SUBSCRIBE a");
    normal.line("PING");
    assert!(killer.line("CLIENT LIST TYPE pubsub").contains(" flags=P db=0 sub=1 psub=0 ssub=0 "));
    assert_eq!(killer.line("CLIENT KILL TYPE pubsub"), ":1\r\n");
    assert_eq!(listener.reply(), None);
    let address = normal.stream.local_addr().unwrap();
    assert_eq!(killer.line(&format!("CLIENT KILL {address}")), "+OK\r\n");
    assert_eq!(normal.reply(), None);
    let mut other = server.client();
    let id = other.line("CLIENT ID");
    let id = id.trim_start_matches(':').trim_end();
    assert_eq!(killer.line(&format!("CLIENT KILL ID {id} TYPE pubsub")), ":0\r\n", "all filters have to hold");
    assert_eq!(killer.line(&format!("CLIENT KILL ID {id} TYPE normal")), ":1\r\n");
    assert_eq!(other.reply(), None);
    assert_eq!(killer.line("CLIENT KILL TYPE normal"), ":0\r\n", "whoever asks is spared");
    assert_eq!(killer.line("CLIENT KILL TYPE normal SKIPME no"), ":1\r\n", "unless it asks for it");
    assert_eq!(killer.reply(), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_client_is_told_in_its_line() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let told = |address| {
        let (mut client, mut other) = (Client::connect(address), Client::connect(address));
        client.line("HELLO 3 SETNAME me");
        let lines = [
            "CLIENT NO-EVICT on",
            "MULTI",
            "PING",
            "EXEC",
            "SUBSCRIBE a",
            "CLIENT NO-EVICT off",
            "CLIENT NO-EVICT on",
            "RESET",
            "HELLO 3 SETNAME me",
        ];
        lines.map(|line| {
            client.line(line);
            let list = other.line("CLIENT LIST");
            let own = list.lines().find(|line| line.contains(" name=me ")).unwrap_or_default();
            let fields =
                own.split(' ').filter(|field| ["flags=", "multi=", "sub=", "resp=", "cmd="].iter().any(|name| field.starts_with(name)));
            format!("{line}: {}", fields.collect::<Vec<_>>().join(" "))
        })
    };
    assert_eq!(told(server.resp), told(redis.address));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_wait_for_the_end_of_a_pause() {
    let server = Server::start(Options::default()).await;
    let (mut pauser, mut client) = (server.client(), server.client());
    client.line("SET k 0");
    assert_eq!(pauser.line("CLIENT PAUSE 60000 WRITE"), "+OK\r\n");
    assert_eq!(client.line("GET k"), "$1\r\n0\r\n", "reads go on");
    client.send(b"SET k 1\r\nGET k\r\n");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(pauser.line("GET k"), "$1\r\n0\r\n");
    assert_eq!(pauser.line("CLIENT UNPAUSE"), "+OK\r\n");
    assert_eq!((client.reply().unwrap(), client.reply().unwrap()), (b"+OK\r\n".to_vec(), b"$1\r\n1\r\n".to_vec()));
    let begin = Instant::now();
    assert_eq!(pauser.line("CLIENT PAUSE 300"), "+OK\r\n");
    assert_eq!(client.line("PING"), "+PONG\r\n");
    assert!(begin.elapsed() >= Duration::from_millis(300), "all commands wait, and the pause ends by itself");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_only_the_replies_that_it_wants() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    for lines in [
        "CLIENT REPLY OFF|SET k 1|GET k|CLIENT REPLY ON|GET k",
        "CLIENT REPLY SKIP|SET k 2|GET k",
        "CLIENT REPLY SKIP|CLIENT REPLY SKIP|GET k|GET k",
        "CLIENT REPLY OFF|CLIENT REPLY SKIP|PING|CLIENT REPLY ON|PING",
        "CLIENT REPLY OFF|NONSENSE|CLIENT REPLY FOO|CLIENT REPLY ON|PING",
        "CLIENT REPLY SKIP|SUBSCRIBE a|PUBLISH a m|PING",
        "CLIENT REPLY OFF|SUBSCRIBE a|PUBLISH a m|CLIENT REPLY ON|PING",
        "MULTI|CLIENT REPLY OFF|GET k|EXEC|CLIENT REPLY ON|GET k",
    ] {
        let hear = |address| {
            let mut client = Client::connect(address);
            client.line("HELLO 3");
            let requests = lines.split('|').map(|line| command(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()));
            client.send(&requests.collect::<Vec<_>>().concat());
            client.send(b"ECHO end\r\n");
            let mut heard = Vec::new();
            while heard.last().is_none_or(|reply| reply != "$3\r\nend\r\n") {
                heard.push(String::from_utf8(client.reply().unwrap()).unwrap());
            }
            heard
        };
        assert_eq!(hear(server.resp), hear(redis.address), "{lines}");
    }
    server.stop().await;
}

/// The names of the fields of a section of INFO.
fn fields(info: &str) -> Vec<&str> {
    info.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn info_has_what_exporters_read() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
    for client in [&mut ours, &mut theirs] {
        client.line("SET k v");
        client.line("GET k");
        client.line("GET none");
        client.line("INCR k");
        client.line("GET");
    }
    let titles = |client: &mut Client, line: &str| -> Vec<String> {
        client.line(line).lines().filter(|line| line.starts_with("# ") && *line != "# Ringtide").map(str::to_owned).collect()
    };
    for line in ["INFO", "INFO all", "INFO everything", "INFO default", "INFO server cpu", "INFO none", "INFO commandstats keyspace"] {
        assert_eq!(titles(&mut ours, line), titles(&mut theirs, line), "{line}");
    }
    let info = ours.line("INFO everything");
    // Whatever redis_exporter and the usual dashboards show.
    for name in "redis_version redis_mode os process_id uptime_in_seconds connected_clients maxclients blocked_clients used_memory \
                 used_memory_rss used_memory_peak used_memory_lua total_system_memory maxmemory maxmemory_policy mem_fragmentation_ratio \
                 mem_clients_normal loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status \
                 rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec aof_enabled aof_rewrite_in_progress aof_last_bgrewrite_status \
                 total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes total_net_output_bytes \
                 instantaneous_input_kbps instantaneous_output_kbps rejected_connections sync_full sync_partial_ok sync_partial_err \
                 expired_keys expired_stale_perc evicted_keys keyspace_hits keyspace_misses pubsub_channels pubsub_patterns latest_fork_usec \
                 slave_expires_tracked_keys active_defrag_hits active_defrag_running role connected_slaves master_repl_offset \
                 repl_backlog_active repl_backlog_size used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children \
                 cluster_enabled db0 lazyfree_pending_objects total_error_replies client_recent_max_input_buffer"
        .split(' ')
        .filter(|name| !name.is_empty())
    {
        assert!(fields(&info).contains(&name), "{name} is missing");
    }
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim_end().to_owned();
    assert_eq!((value("keyspace_hits"), value("keyspace_misses")), ("1".to_owned(), "1".to_owned()));
    assert!(value("cmdstat_get").starts_with("calls=2,usec=") && value("cmdstat_get").ends_with("rejected_calls=1,failed_calls=0"));
    assert!(value("cmdstat_incr").ends_with("rejected_calls=0,failed_calls=1"));
    assert_eq!(value("errorstat_ERR"), "count=2");
    assert!(value("latency_percentiles_usec_set").starts_with("p50="));
    assert!(value("used_memory").parse::<u64>().unwrap() > 1_000_000 && value("connected_clients") == "1");
    assert_eq!(ours.line("CONFIG RESETSTAT"), "+OK\r\n");
    assert!(!ours.line("INFO commandstats").contains("cmdstat_get"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_commands_are_logged_and_long_ones_distributed() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    client.line("CLIENT SETNAME me");
    assert_eq!(client.line("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 2"), "+OK\r\n");
    client.line("SET k v");
    client.line("GET k");
    let logged = client.line("SLOWLOG GET");
    assert!(logged.starts_with("*2\r\n*6\r\n:"), "{logged}");
    assert!(logged.contains("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n") && logged.contains("$2\r\nme\r\n"), "{logged}");
    assert_eq!(client.line("SLOWLOG LEN"), ":2\r\n");
    let histogram = client.line("LATENCY HISTOGRAM set client");
    assert!(histogram.contains("$3\r\nset\r\n*4\r\n$5\r\ncalls\r\n:1\r\n$14\r\nhistogram_usec\r\n"), "{histogram}");
    assert!(histogram.contains("$14\r\nclient|setname\r\n"), "{histogram}");
    let usage = client.line("MEMORY USAGE k");
    assert!(usage.starts_with(':') && usage != ":0\r\n", "{usage}");
    assert!(client.line("MEMORY STATS").contains("$10\r\nkeys.count\r\n:1\r\n"));
    server.stop().await;
}
