//! What INFO tells of each command and each kind of error.

use super::full_names;
use super::info_fields::Fields;
use crate::node::Status;
use crate::server::resp::shared::Shared;
use crate::server::resp::tallies::Figures;

/// The commands that came at all, each with its figures.
fn figures(shared: &Shared) -> impl Iterator<Item = (String, Figures)> {
    full_names().enumerate().filter_map(|(row, name)| shared.tallies.figures(row).map(|figures| (name, figures)))
}

pub(super) fn commands(fields: &mut Fields, shared: &Shared, _status: &Status) {
    for (name, figures) in figures(shared) {
        let each = figures.microseconds_per_call();
        let Figures { calls, microseconds, rejected, failed, .. } = figures;
        fields.add(
            &format!("cmdstat_{name}"),
            format_args!("calls={calls},usec={microseconds},usec_per_call={each:.2},rejected_calls={rejected},failed_calls={failed}"),
        );
    }
}

pub(super) fn errors(fields: &mut Fields, shared: &Shared, _status: &Status) {
    for (kind, count) in shared.tallies.errors_by_kind() {
        fields.add(&format!("errorstat_{kind}"), format_args!("count={count}"));
    }
}

pub(super) fn latencies(fields: &mut Fields, shared: &Shared, _status: &Status) {
    for (name, figures) in figures(shared).filter(|(_, figures)| figures.calls > 0) {
        let [half, most, nearly_all] = [500, 990, 999].map(|permille| figures.percentile(permille));
        fields.add(&format!("latency_percentiles_usec_{name}"), format_args!("p50={half}.000,p99={most}.000,p99.9={nearly_all}.000"));
    }
}
