//! What befalls the replicas of the small world: crashes, restored backups, lost rows, leaving and returning.

use ringtide::crdt::delta::Causal;
use ringtide::crdt::dot::Dot;
use ringtide::types::Actor;

use super::{Snapshot, World};

impl World {
    pub(super) fn crash(&mut self, here: usize) {
        self.tell(|_| format!("{here} crashes, the unsynced tail is lost"));
        let replica = &mut self.replicas[here];
        replica.now = replica.durable.clone();
        if replica.sealed {
            replica.confirmed = 0;
        }
        // The rest of the leased block is skipped.
        replica.next += 10;
        self.renew(here);
    }

    /// A new state id: runs that began before are not continued.
    pub(super) fn renew(&mut self, here: usize) {
        let replica = &mut self.replicas[here];
        replica.state_id += 100;
        replica.runs_since = replica.next;
    }

    pub(super) fn back_up_or_restore(&mut self, here: usize, back_up: bool) {
        let replica = &mut self.replicas[here];
        if !replica.present {
            return;
        }
        match replica.backup.clone() {
            Some(backup) if !back_up => {
                replica.now = backup;
                replica.durable = replica.now.clone();
                // A restored folder is not provably the one that the actor last wrote in.
                self.actors += 1;
                replica.actor = Actor(self.actors);
                replica.next = 1;
                self.renew(here);
                self.tell(|_| format!("{here} is restored from its backup"));
            }
            _ => replica.backup = Some(replica.now.clone()),
        }
    }

    pub(super) fn appear(&mut self, here: usize) {
        if !self.replicas[here].present {
            self.replicas[here].present = true;
            self.tell(|_| format!("{here} joins empty"));
        }
    }

    pub(super) fn seal(&mut self, here: usize) {
        let replica = &mut self.replicas[here];
        if replica.present && !replica.sealed {
            (replica.sealed, replica.confirmed, replica.sealed_at) = (true, 0, self.time);
            self.tell(|_| format!("{here} is leaving"));
        }
    }

    /// Drops everything where all the others have confirmed.
    pub(crate) fn try_leave(&mut self, here: usize) {
        let others = (0..self.replicas.len()).filter(|other| *other != here && self.replicas[*other].present);
        let confirmed: Vec<bool> = others.map(|other| self.replicas[here].confirmed >> other & 1 == 1).collect();
        if confirmed.is_empty() || confirmed.contains(&false) {
            return;
        }
        self.tell(|_| format!("{here} has left and dropped everything"));
        self.left |= self.replicas[here].now.known;
        let replica = &mut self.replicas[here];
        (replica.now, replica.durable, replica.backup) = (Snapshot::default(), Snapshot::default(), None);
        (replica.present, replica.sealed) = (false, false);
        self.renew(here);
    }

    /// One row is gone from the disk, and noticed: the clock shrinks to the dots that are left.
    pub(super) fn lose_a_row(&mut self, here: usize, choice: u32) {
        let replica = &mut self.replicas[here];
        if !replica.present || replica.now.state.rows.is_empty() || choice & 3 != 0 {
            return;
        }
        let at = (choice >> 2) as usize % replica.now.state.rows.len();
        let lost = replica.now.state.rows.keys().nth(at).cloned();
        replica.now.state.rows.retain(|address, _| Some(address) != lost.as_ref());
        let dots: Vec<Dot> = replica.now.state.rows.values().flat_map(|row| row.keys().copied()).collect();
        replica.now.state.causal = Causal { clock: dots.iter().copied().collect(), ..Default::default() };
        replica.now.known = 0;
        replica.now.observed = dots.iter().fold(0, |set, dot| set | self.graph.covers(*dot));
        replica.durable = replica.now.clone();
        self.renew(here);
        self.tell(|_| format!("{here} lost {lost:?} and says so"));
    }
}
