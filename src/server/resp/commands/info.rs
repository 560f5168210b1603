//! INFO: the fields that clients and dashboards of Redis read, and a section of our own.

use std::fmt::{Display, Write};

use bytes::Bytes;

use super::Call;
use super::action::Action;
use super::options::is;
use super::spec::Parsed;
use crate::node::Status;
use crate::server::resp::reply::Reply;
use crate::server::resp::shared::{REDIS_VERSION, Shared, VERSION};

/// A section: its title, and its fields.
type Section = (&'static str, fn(&mut Fields, &Shared, &Status));

const SECTIONS: [Section; 9] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Cluster", cluster),
    ("Ringtide", ringtide),
    ("Keyspace", keyspace),
];

/// `INFO [section…]`.
pub(super) fn info(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let wanted = |title: &str| {
        let every = |section: &Bytes| ["default", "all", "everything"].iter().any(|word| is(section, word));
        arguments.len() == 1 || arguments[1..].iter().any(|section| is(section, title) || every(section))
    };
    let status = call.shared.node.status();
    let mut fields = Fields(String::new());
    for (title, fill) in SECTIONS.into_iter().filter(|(title, _)| wanted(title)) {
        let separator = if fields.0.is_empty() { "" } else { "\r\n" };
        // Writing to a string can't fail.
        let _ = write!(fields.0, "{separator}# {title}\r\n");
        fill(&mut fields, call.shared, &status);
    }
    Ok(Action::Reply(Reply::Text(fields.0)))
}

/// Lines of `name:value`.
struct Fields(String);

impl Fields {
    fn add(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }
}

fn server(fields: &mut Fields, shared: &Shared, status: &Status) {
    let uptime = shared.started_at.elapsed().as_secs();
    fields.add("redis_version", REDIS_VERSION);
    fields.add("redis_mode", "standalone");
    fields.add("ringtide_version", VERSION);
    fields.add("os", std::env::consts::OS);
    fields.add("arch_bits", usize::BITS);
    fields.add("process_id", std::process::id());
    fields.add("run_id", status.peer);
    fields.add("tcp_port", shared.address.port());
    fields.add("server_time_usec", shared.now_ms().saturating_mul(1000));
    fields.add("uptime_in_seconds", uptime);
    fields.add("uptime_in_days", uptime / 86_400);
}

fn clients(fields: &mut Fields, shared: &Shared, _status: &Status) {
    fields.add("connected_clients", shared.clients.count());
    fields.add("maxclients", shared.max_clients());
    fields.add("blocked_clients", 0);
}

fn memory(fields: &mut Fields, _shared: &Shared, _status: &Status) {
    let used = resident_bytes();
    fields.add("used_memory", used);
    fields.add("used_memory_human", bytesize::ByteSize(used));
    fields.add("used_memory_rss", used);
    fields.add("maxmemory", 0);
    fields.add("maxmemory_policy", "noeviction");
    fields.add("mem_fragmentation_ratio", "1.00");
}

/// What the process holds in memory, 0 where the system doesn't tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn persistence(fields: &mut Fields, _shared: &Shared, _status: &Status) {
    fields.add("loading", 0);
    fields.add("rdb_bgsave_in_progress", 0);
    fields.add("rdb_last_bgsave_status", "ok");
    fields.add("aof_enabled", 1);
    fields.add("aof_last_write_status", "ok");
}

fn stats(fields: &mut Fields, shared: &Shared, _status: &Status) {
    let statistics = &shared.statistics;
    fields.add("total_connections_received", statistics.connections.get());
    fields.add("total_commands_processed", statistics.commands.get());
    fields.add("total_net_input_bytes", statistics.bytes_read.get());
    fields.add("total_net_output_bytes", statistics.bytes_written.get());
    fields.add("rejected_connections", statistics.rejected_connections.get());
    fields.add("evicted_keys", 0);
    fields.add("total_error_replies", statistics.errors.get());
}

fn replication(fields: &mut Fields, _shared: &Shared, _status: &Status) {
    // Every peer takes writes, and none follows another.
    fields.add("role", "master");
    fields.add("connected_slaves", 0);
}

fn cluster(fields: &mut Fields, _shared: &Shared, _status: &Status) {
    fields.add("cluster_enabled", 0);
}

fn ringtide(fields: &mut Fields, _shared: &Shared, status: &Status) {
    fields.add("peer", status.peer);
    fields.add("cluster", &status.cluster);
    fields.add("members", status.members);
    fields.add("up", status.up);
    fields.add("partitions", status.partitions);
    fields.add("replicas", status.replicas);
    fields.add("keys", status.keys);
    fields.add("hints", status.hints);
    fields.add("syncing", status.syncing);
    fields.add("handing_over", status.handing_over);
    fields.add("protected", u8::from(status.protected));
}

fn keyspace(fields: &mut Fields, _shared: &Shared, status: &Status) {
    if status.keys > 0 {
        fields.add("db0", format_args!("keys={},expires=0,avg_ttl=0", status.keys));
    }
}
