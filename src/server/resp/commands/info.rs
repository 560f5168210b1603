//! INFO: the fields that clients, exporters and dashboards of Redis read, and a section of our own. What there is nothing of here is 0.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Call;
use super::action::Action;
use super::figures;
use super::info_fields::Fields;
use super::options::is;
use super::spec::Parsed;
use crate::node::Status;
use crate::server::process::Usage;
use crate::server::resp::clients::ClientType;
use crate::server::resp::reply::Reply;
use crate::server::resp::shared::{REDIS_VERSION, Shared, VERSION};

/// A section: its title, whether INFO tells it unasked, and its fields.
type Section = (&'static str, bool, fn(&mut Fields, &Shared, &Status));

const SECTIONS: [Section; 14] = [
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, processor),
    ("Modules", true, |_, _, _| {}),
    ("Commandstats", false, figures::commands),
    ("Errorstats", true, figures::errors),
    ("Latencystats", false, figures::latencies),
    ("Cluster", true, cluster),
    ("Ringtide", true, ringtide),
    ("Keyspace", true, keyspace),
];

/// `INFO [section…]`.
pub(super) fn info(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let asked = &arguments[1..];
    let names = |words: &[&str]| asked.iter().any(|section| words.iter().any(|word| is(section, word)));
    let (everything, usual) = (names(&["all", "everything"]), asked.is_empty() || names(&["default"]));
    let status = call.shared.node.status();
    let mut fields = Fields(String::new());
    for (title, unasked, fill) in SECTIONS {
        if everything || usual && unasked || names(&[title]) {
            let separator = if fields.0.is_empty() { "" } else { "\r\n" };
            // Writing to a string can't fail.
            let _ = write!(fields.0, "{separator}# {title}\r\n");
            fill(&mut fields, call.shared, &status);
        }
    }
    Ok(Action::Reply(Reply::Text(fields.0)))
}

fn server(fields: &mut Fields, shared: &Shared, status: &Status) {
    let uptime = shared.started_at.elapsed().as_secs();
    fields.add("redis_version", REDIS_VERSION);
    fields.add("redis_git_sha1", "00000000");
    fields.add("redis_git_dirty", 0);
    fields.add("redis_build_id", VERSION);
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
    fields.add("hz", 10);
    fields.add("executable", std::env::current_exe().unwrap_or_default().display());
    fields.add("config_file", "");
    fields.add("io_threads_active", 0);
}

fn clients(fields: &mut Fields, shared: &Shared, _status: &Status) {
    let clients = shared.clients.list();
    fields.add("connected_clients", shared.clients.count());
    fields.add("cluster_connections", 0);
    fields.add("maxclients", shared.max_clients());
    let (mut input, mut output) = (0, 0);
    for client in &clients {
        let held = client.buffers.held();
        (input, output) = (input.max(held.0), output.max(held.1));
    }
    fields.add("client_recent_max_input_buffer", input);
    fields.add("client_recent_max_output_buffer", output);
    fields.add("blocked_clients", clients.iter().filter(|client| client.is_blocked.load(Ordering::Relaxed)).count());
    fields.add("pubsub_clients", clients.iter().filter(|client| client.client_type() == ClientType::Pubsub).count());
    fields.zeros(&["tracking_clients", "clients_in_timeout_table"]);
}

fn memory(fields: &mut Fields, shared: &Shared, _status: &Status) {
    let usage = Usage::now();
    fields.bytes("used_memory", usage.resident_bytes);
    fields.bytes("used_memory_rss", usage.resident_bytes);
    fields.bytes("used_memory_peak", usage.peak_bytes);
    fields.add("used_memory_startup", 0);
    fields.add("used_memory_dataset", usage.resident_bytes);
    fields.bytes("total_system_memory", usage.machine_bytes);
    fields.zeros(&["used_memory_overhead", "used_memory_lua", "used_memory_scripts"]);
    fields.bytes("maxmemory", 0);
    fields.add("maxmemory_policy", "noeviction");
    fields.add("allocator_allocated", usage.resident_bytes);
    fields.add("allocator_active", usage.resident_bytes);
    fields.add("allocator_resident", usage.resident_bytes);
    fields.add("mem_fragmentation_ratio", "1.00");
    fields.zeros(&["mem_fragmentation_bytes", "mem_not_counted_for_evict", "mem_replication_backlog", "mem_clients_slaves"]);
    fields.add("mem_clients_normal", shared.clients.list().iter().map(|client| client.buffers.held().1).sum::<usize>());
    fields.add("mem_aof_buffer", 0);
    fields.add("mem_allocator", "libc");
    fields.zeros(&["active_defrag_running", "lazyfree_pending_objects", "lazyfreed_objects"]);
}

fn persistence(fields: &mut Fields, shared: &Shared, _status: &Status) {
    fields.zeros(&["loading", "async_loading", "rdb_changes_since_last_save", "rdb_bgsave_in_progress"]);
    // Every write is in the store's journal when it is acknowledged.
    fields.add("rdb_last_save_time", shared.now_ms() / 1000);
    fields.add("rdb_last_bgsave_status", "ok");
    fields.add("rdb_last_bgsave_time_sec", 0);
    fields.add("rdb_current_bgsave_time_sec", -1);
    fields.add("rdb_last_cow_size", 0);
    fields.add("aof_enabled", 1);
    fields.zeros(&["aof_rewrite_in_progress", "aof_rewrite_scheduled", "aof_last_rewrite_time_sec"]);
    fields.add("aof_current_rewrite_time_sec", -1);
    fields.add("aof_last_bgrewrite_status", "ok");
    fields.add("aof_last_write_status", "ok");
    fields.add("aof_last_cow_size", 0);
    fields.zeros(&["module_fork_in_progress", "module_fork_last_cow_size"]);
}

fn stats(fields: &mut Fields, shared: &Shared, _status: &Status) {
    let statistics = &shared.statistics;
    let [commands, input, output] = shared.rates.per_second();
    let (found, missed) = shared.node.reads();
    let (channels, patterns, shards) = shared.node.pubsub().own_counts();
    fields.add("total_connections_received", statistics.connections.get());
    fields.add("total_commands_processed", statistics.commands.get());
    fields.add("instantaneous_ops_per_sec", commands);
    fields.add("total_net_input_bytes", statistics.bytes_read.get());
    fields.add("total_net_output_bytes", statistics.bytes_written.get());
    fields.add("instantaneous_input_kbps", kibibytes(input));
    fields.add("instantaneous_output_kbps", kibibytes(output));
    fields.add("rejected_connections", statistics.rejected_connections.get());
    fields.zeros(&["sync_full", "sync_partial_ok", "sync_partial_err"]);
    fields.add("expired_keys", shared.node.expired_keys());
    fields.add("expired_stale_perc", "0.00");
    fields.zeros(&["expired_time_cap_reached_count", "evicted_keys", "evicted_clients"]);
    fields.add("keyspace_hits", found);
    fields.add("keyspace_misses", missed);
    fields.add("pubsub_channels", channels);
    fields.add("pubsub_patterns", patterns);
    fields.add("pubsubshard_channels", shards);
    fields.zeros(&["latest_fork_usec", "total_forks", "migrate_cached_sockets", "slave_expires_tracked_keys"]);
    fields.zeros(&["active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses"]);
    fields.zeros(&["tracking_total_keys", "tracking_total_items", "tracking_total_prefixes", "unexpected_error_replies"]);
    fields.add("total_error_replies", statistics.errors.get());
    fields.add("client_output_buffer_limit_disconnections", statistics.slow_subscribers.get());
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people, with two digits behind the point")]
fn kibibytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}

fn replication(fields: &mut Fields, _shared: &Shared, status: &Status) {
    // Every peer takes writes, and none follows another.
    fields.add("role", "master");
    fields.add("connected_slaves", 0);
    fields.add("master_failover_state", "no-failover");
    fields.add("master_replid", status.peer);
    fields.add("master_repl_offset", 0);
    fields.add("second_repl_offset", -1);
    fields.zeros(&["repl_backlog_active", "repl_backlog_size", "repl_backlog_first_byte_offset", "repl_backlog_histlen"]);
}

fn processor(fields: &mut Fields, _shared: &Shared, _status: &Status) {
    let usage = Usage::now();
    fields.add("used_cpu_sys", format_args!("{:.6}", usage.system_time.as_secs_f64()));
    fields.add("used_cpu_user", format_args!("{:.6}", usage.user_time.as_secs_f64()));
    fields.add("used_cpu_sys_children", "0.000000");
    fields.add("used_cpu_user_children", "0.000000");
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
    fields.add("disk_full", u8::from(!status.has_room));
    fields.add("damaged_partitions", status.damage.partitions);
    fields.add("damaged_rows", status.damage.rows_aside);
    fields.add("unjoined_rows", status.damage.rows_unjoined);
    fields.add("mended_records", status.damage.derived);
    fields.add("clock_ahead_ms", status.clock_ahead_ms);
}

fn keyspace(fields: &mut Fields, _shared: &Shared, status: &Status) {
    if status.keys > 0 {
        fields.add("db0", format_args!("keys={},expires=0,avg_ttl=0", status.keys));
    }
}
