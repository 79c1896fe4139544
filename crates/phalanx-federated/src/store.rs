//! A vector for each client that has one, kept by one rank each: control variates, running means.

use bytemuck::{AnyBitPattern, cast_slice, pod_read_unaligned};
use phalanx_comm::{CommError, Communicator, CommunicatorExt};
use phalanx_data::shard_range;
use phalanx_grad::{GradError, StateData, StateTensor};
use std::collections::BTreeMap;

/// Vectors of `dim` numbers by client. Clients without one count as having zeros, and take no memory.
///
/// The client of a name is kept by the rank `name mod ranks`. A round fetches the vectors of its clients to where they are
/// trained and puts new ones back, so that the ranks together hold one vector for each client that ever took part:
/// `4 dim` bytes each.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientStore {
    name: &'static str,
    dim: usize,
    own: BTreeMap<u64, Vec<f32>>,
}

impl ClientStore {
    /// A store without vectors; `name` goes before those of its state.
    #[must_use]
    pub fn new(name: &'static str, dim: usize) -> Self {
        ClientStore { name, dim, own: BTreeMap::new() }
    }

    /// The vectors of this rank's share of `clients`, one after the other.
    ///
    /// # Collective
    /// Every rank, with the same clients.
    ///
    /// # Errors
    /// Another rank's failure.
    pub fn fetch(&self, comm: &dyn Communicator, clients: &[u64]) -> Result<Vec<f32>, CommError> {
        let ranks = comm.size().get();
        let me = comm.rank().index();
        let shares: Vec<&[u64]> = (0..ranks).map(|rank| share(clients, rank, ranks)).collect();
        let mut packed = Vec::new();
        for client in
            shares.iter().flat_map(|share| share.iter()).filter(|client| keeper(**client, ranks) == me)
        {
            match self.own.get(client) {
                Some(vector) => packed.extend_from_slice(vector),
                None => packed.resize(packed.len() + self.dim, 0.0),
            }
        }
        let kept = |share: &[u64], rank| {
            self.dim * share.iter().filter(|client| keeper(**client, ranks) == rank).count()
        };
        let sent: Vec<usize> = shares.iter().map(|share| kept(share, me)).collect();
        let expected: Vec<usize> = (0..ranks).map(|rank| kept(shares[me], rank)).collect();
        let mut received = vec![0.0; self.dim * shares[me].len()];
        comm.all_to_all_into(&packed, &sent, &mut received, &expected)?;
        let mut rows = vec![0.0; received.len()];
        for (from, to) in by_keeper(shares[me], ranks).into_iter().enumerate() {
            rows[to * self.dim..][..self.dim].copy_from_slice(&received[from * self.dim..][..self.dim]);
        }
        Ok(rows)
    }

    /// Keeps new vectors of clients, where `is_kept` says so; `rows` are those of this rank's share.
    ///
    /// # Collective
    /// Every rank, with the same clients and the same `is_kept`.
    ///
    /// # Errors
    /// Another rank's failure.
    pub fn put(
        &mut self,
        comm: &dyn Communicator,
        clients: &[u64],
        is_kept: impl Fn(u64) -> bool,
        rows: &[f32],
    ) -> Result<(), CommError> {
        let ranks = comm.size().get();
        let me = comm.rank().index();
        let shares: Vec<&[u64]> = (0..ranks).map(|rank| share(clients, rank, ranks)).collect();
        let packed: Vec<f32> = by_keeper(shares[me], ranks)
            .into_iter()
            .flat_map(|at| &rows[at * self.dim..][..self.dim])
            .copied()
            .collect();
        let kept = |share: &[u64], rank| {
            self.dim * share.iter().filter(|client| keeper(**client, ranks) == rank).count()
        };
        let sent: Vec<usize> = (0..ranks).map(|rank| kept(shares[me], rank)).collect();
        let expected: Vec<usize> = shares.iter().map(|share| kept(share, me)).collect();
        let mut received = vec![0.0; expected.iter().sum()];
        comm.all_to_all_into(&packed, &sent, &mut received, &expected)?;
        let mine =
            shares.iter().flat_map(|share| share.iter()).filter(|client| keeper(**client, ranks) == me);
        for (client, row) in mine.zip(received.chunks_exact(self.dim.max(1))) {
            if is_kept(*client) {
                self.own.insert(*client, row.to_vec());
            }
        }
        Ok(())
    }

    /// All vectors of all ranks, in the order of names: the same for every number of ranks.
    ///
    /// # Collective
    /// Every rank; each holds all vectors for a while.
    ///
    /// # Errors
    /// Another rank's failure.
    pub fn state(&self, comm: &dyn Communicator) -> Result<Vec<StateTensor>, CommError> {
        let ids: Vec<u64> = self.own.keys().copied().collect();
        let rows: Vec<f32> = self.own.values().flatten().copied().collect();
        let ids = comm.all_gather_bytes(cast_slice(&ids))?;
        let rows = comm.all_gather_bytes(cast_slice(&rows))?;
        let mut all = BTreeMap::new();
        for (ids, rows) in ids.iter().zip(&rows) {
            let (ids, rows): (Vec<u64>, Vec<f32>) = (numbers(ids), numbers(rows));
            all.extend(ids.into_iter().zip(rows.chunks_exact(self.dim.max(1)).map(<[f32]>::to_vec)));
        }
        let data = StateData::U64(all.keys().copied().collect());
        let rows: Vec<f32> = all.into_values().flatten().collect();
        let name = |part| format!("{}.{part}", self.name);
        Ok(vec![StateTensor { name: name("clients"), data }, StateTensor::new(name("rows"), &rows)])
    }

    /// Takes back what [`state`](Self::state) gave: of its vectors, those that this rank keeps.
    ///
    /// # Errors
    /// [`GradError::StateMissing`] and its like for the state of another store.
    pub fn restore(&mut self, comm: &dyn Communicator, state: &[StateTensor]) -> Result<(), GradError> {
        let owner = self.name;
        let of = |part: &'static str| {
            let found = state.iter().find(|tensor| tensor.name == format!("{owner}.{part}"));
            found.map(|tensor| &tensor.data).ok_or(GradError::StateMissing { owner, name: part })
        };
        let (ids, rows) = (of("clients")?, of("rows")?);
        let StateData::U64(ids) = ids else {
            return Err(GradError::StateType { owner, name: "clients", got: ids.type_name(), need: "U64" });
        };
        let got = rows.type_name();
        let rows =
            rows.elems::<f32>().ok_or(GradError::StateType { owner, name: "rows", got, need: "F32" })?;
        if rows.len() != ids.len() * self.dim {
            let (got, need) = (rows.len(), ids.len() * self.dim);
            return Err(GradError::StateLength { owner, name: "rows", got, need });
        }
        let all = ids.iter().copied().zip(rows.chunks_exact(self.dim.max(1)));
        let mine = all.filter(|(client, _)| keeper(*client, comm.size().get()) == comm.rank().index());
        self.own = mine.map(|(client, row)| (client, row.to_vec())).collect();
        Ok(())
    }
}

/// The clients that a rank trains: consecutive ones, as many as the others or one more.
pub(crate) fn share(clients: &[u64], rank: usize, ranks: usize) -> &[u64] {
    &clients[shard_range(clients.len(), rank, ranks)]
}

/// Numbers from the bytes of another rank, which may lie anywhere.
fn numbers<T: AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(pod_read_unaligned).collect()
}

fn keeper(client: u64, ranks: usize) -> usize {
    usize::try_from(client % ranks as u64).unwrap_or(0)
}

/// Places in a share, those of clients that rank 0 keeps first.
fn by_keeper(share: &[u64], ranks: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..share.len()).collect();
    places.sort_by_key(|at| keeper(share[*at], ranks));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_comm::{Options, WorldSize, run_ranks};

    const CLIENTS: [u64; 5] = [2, 3, 7, 8, 11];

    /// What client `c` has: `(c, 10 c)`.
    fn filled(comm: &dyn Communicator) -> ClientStore {
        let mut store = ClientStore::new("means", 2);
        let mine = share(&CLIENTS, comm.rank().index(), comm.size().get());
        let rows: Vec<f32> = mine.iter().flat_map(|c| [*c as f32, 10.0 * *c as f32]).collect();
        store.put(comm, &CLIENTS, |client| client != 8, &rows).expect("no rank fails");
        store
    }

    #[test]
    fn what_was_put_is_fetched_whoever_trains_the_client() {
        for ranks in [1, 2, 3, 6] {
            let fetched = run_ranks(WorldSize(ranks), &Options::default(), |comm| {
                // client 8 was not kept, 9 has never been there
                filled(&*comm).fetch(&*comm, &[3, 7, 8, 9, 11])
            });
            let all = fetched.expect("no rank fails").concat();
            assert_eq!(all, [3.0, 30.0, 7.0, 70.0, 0.0, 0.0, 0.0, 0.0, 11.0, 110.0], "{ranks} ranks");
        }
    }

    #[test]
    fn the_state_is_the_same_for_every_number_of_ranks_and_goes_to_any() {
        let state = |ranks| {
            let states =
                run_ranks(WorldSize(ranks), &Options::default(), |comm| filled(&*comm).state(&*comm));
            states.expect("no rank fails").swap_remove(0)
        };
        let one = state(1);
        assert_eq!(state(3), one);
        let back = run_ranks(WorldSize(2), &Options::default(), move |comm| {
            let mut store = ClientStore::new("means", 2);
            store.restore(&*comm, &one)?;
            assert_eq!(store, filled(&*comm));
            assert!(ClientStore::new("means", 3).restore(&*comm, &one).is_err(), "another model");
            Ok::<_, GradError>(store.restore(&*comm, &one[..1]).unwrap_err())
        });
        let missing = GradError::StateMissing { owner: "means", name: "rows" };
        assert_eq!(back.expect("no rank fails"), [missing.clone(), missing]);
    }
}
