//! CLIENT KILL: disconnects clients, one by its address, or all that some filters leave.

use bytes::Bytes;

use super::Call;
use super::action::{Action, CommandError};
use super::options::{client_type, is};
use super::spec::Parsed;
use crate::server::resp::clients::{Client, ClientType};
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::Reply;

/// Which clients are meant.
#[derive(Default)]
struct Filters {
    id: Option<u64>,
    kind: Option<ClientType>,
    address: Option<Bytes>,
    local: Option<Bytes>,
    /// Whether the client that asks is left out.
    spares_asker: bool,
}

impl Filters {
    fn leave(&self, client: &Client) -> bool {
        let is_at = |wanted: &Option<Bytes>, address: std::net::SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| wanted[..] == *address.to_string().as_bytes())
        };
        self.id.is_none_or(|id| client.id == id)
            && self.kind.is_none_or(|kind| client.client_type() == kind)
            && is_at(&self.address, client.address())
            && is_at(&self.local, client.local())
    }
}

/// `CLIENT KILL address | (ID id | TYPE type | ADDR address | LADDR address | USER name | SKIPME yes/no)…`
pub(super) fn kill(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let old_form = arguments.len() == 3;
    let filters = if old_form { Filters { address: Some(arguments[2].clone()), ..Filters::default() } } else { filters(&arguments[2..])? };
    let (mut killed, mut asker_too) = (0, false);
    for client in call.shared.clients.list().iter().filter(|client| filters.leave(client)) {
        match client.id == call.session.client.id {
            true if filters.spares_asker => continue,
            true => asker_too = true,
            false => client.killed.notify_one(),
        }
        killed += 1;
    }
    let reply = match killed {
        0 if old_form => return Err(CommandError::other("ERR No such client")),
        _ if old_form => Reply::OK,
        killed => Reply::Integer(killed),
    };
    // Whoever asks for its own end is told first.
    Ok(if asker_too { Action::Quit(reply) } else { Action::Reply(reply) })
}

fn filters(arguments: &[Bytes]) -> Result<Filters, CommandError> {
    let mut filters = Filters { spares_asker: true, ..Filters::default() };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return Err(CommandError::Syntax) };
        match name.to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = parse_integer(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                filters.id = Some(id.ok_or_else(|| CommandError::other("ERR client-id should be greater than 0"))?);
            }
            b"type" => filters.kind = Some(client_type(value)?),
            b"addr" => filters.address = Some(value.clone()),
            b"laddr" => filters.local = Some(value.clone()),
            // There is only this user.
            b"user" if &value[..] == b"default" => {}
            b"user" => return Err(CommandError::Other(format!("ERR No such user '{}'", String::from_utf8_lossy(value)))),
            b"skipme" if is(value, "yes") => filters.spares_asker = true,
            b"skipme" if is(value, "no") => filters.spares_asker = false,
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(filters)
}
