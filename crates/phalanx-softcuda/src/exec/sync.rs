//! What lanes of a warp do together: shuffles, votes, matches, reductions.

use super::block::{Machine, Stop, stop};
use super::kernel::{Op, Shuffle, Vote};
use super::lanes::{LANES, W, each};
use super::warp::Warp;
use crate::driver::Code;

/// Whether the lanes were all there.
type Together = Result<bool, Box<Stop>>;

impl Warp {
    /// Executes what lanes do together; false where lanes that it names are still elsewhere.
    pub(super) fn together(&mut self, machine: &mut Machine<'_>, op: &Op, active: u32) -> Together {
        let members = match op {
            Op::Nothing => return Ok(true),
            Op::ActiveMask { d } => {
                self.put_w(*d, &[active; LANES], active);
                return Ok(true);
            }
            Op::WarpBarrier { members }
            | Op::Shuffle { members, .. }
            | Op::Vote { members, .. }
            | Op::Ballot { members, .. }
            | Op::MatchAny { members, .. }
            | Op::MatchAnyD { members, .. }
            | Op::MatchAll { members, .. }
            | Op::MatchAllD { members, .. }
            | Op::Redux { members, .. }
            | Op::Elect { members, .. } => *self.w(*members),
            Op::Ldmatrix(_) | Op::Mma(_) => [u32::MAX; LANES],
            _ => return stop(0, Code::ILLEGAL_INSTRUCTION, "an instruction that is not executed here"),
        };
        let live = self.live();
        for lane in each(active) {
            if members[lane] >> lane & 1 == 0 {
                let what = format!("lane {lane} is not in the mask {:#010x} that it names", members[lane]);
                return stop(lane, Code::ILLEGAL_INSTRUCTION, what);
            }
            if members[lane] & live & !active != 0 {
                return Ok(false);
            }
            if let Some(other) = each(members[lane] & active).find(|&other| members[other] != members[lane]) {
                let what = format!(
                    "lane {lane} names {:#010x}, lane {other} {:#010x}",
                    members[lane], members[other]
                );
                return stop(lane, Code::ILLEGAL_INSTRUCTION, what);
            }
        }
        let mut left = active;
        while left != 0 {
            let team = members[left.trailing_zeros() as usize] & active;
            self.team(machine, op, team)?;
            left &= !team;
        }
        Ok(true)
    }

    /// Executes it for lanes that name each other.
    fn team(&mut self, machine: &mut Machine<'_>, op: &Op, team: u32) -> Result<(), Box<Stop>> {
        match op {
            Op::WarpBarrier { .. } => self.syncs += 1,
            Op::Shuffle { kind, d, in_range, a, b, c, .. } => {
                return self.shuffle(*kind, *d, *in_range, [*a, *b, *c], team);
            }
            Op::Vote { kind, d, a, .. } => {
                let yes = self.p(*a) & team;
                let holds = match kind {
                    Vote::All => yes == team,
                    Vote::Any => yes != 0,
                    Vote::Uniform => yes == team || yes == 0,
                };
                self.put_p(*d, if holds { u32::MAX } else { 0 }, team);
            }
            Op::Ballot { d, a, .. } => {
                let yes = self.p(*a) & team;
                self.put_w(*d, &[yes; LANES], team);
            }
            Op::MatchAny { d, a, .. } => {
                let value = self.w(*a).map(u64::from);
                self.match_any(*d, &value, team);
            }
            Op::MatchAnyD { d, a, .. } => {
                let value = *self.d(*a);
                self.match_any(*d, &value, team);
            }
            Op::MatchAll { d, all, a, .. } => {
                let value = self.w(*a).map(u64::from);
                self.match_all(*d, *all, &value, team);
            }
            Op::MatchAllD { d, all, a, .. } => {
                let value = *self.d(*a);
                self.match_all(*d, *all, &value, team);
            }
            Op::Redux { f, d, a, .. } => {
                let value = *self.w(*a);
                let sum = each(team).map(|lane| value[lane]).reduce(f).unwrap_or_default();
                self.put_w(*d, &[sum; LANES], team);
            }
            Op::Elect { d, p, .. } => {
                let leader = team.trailing_zeros();
                if let Some(d) = d {
                    self.put_w(*d, &[leader; LANES], team);
                }
                self.put_p(*p, 1 << leader, team);
            }
            Op::Ldmatrix(load) => return self.ldmatrix(machine, load),
            Op::Mma(mma) => {
                if team != u32::MAX {
                    return stop(
                        team.trailing_zeros() as usize,
                        Code::ILLEGAL_INSTRUCTION,
                        "mma needs all lanes of its warp",
                    );
                }
                self.mma(mma);
            }
            _ => {}
        }
        Ok(())
    }

    fn shuffle(
        &mut self,
        kind: Shuffle,
        d: W,
        in_range: Option<super::P>,
        [a, b, c]: [W; 3],
        team: u32,
    ) -> Result<(), Box<Stop>> {
        let (value, b, c) = (*self.w(a), *self.w(b), *self.w(c));
        let (mut out, mut valid) = ([0; LANES], 0);
        for lane in each(team) {
            let me = lane as u32;
            let (b, clamp, segment) = (b[lane] & 31, c[lane] & 31, c[lane] >> 8 & 31);
            let last = me & segment | clamp & !segment;
            let (from, inside) = match kind {
                Shuffle::Up => (me.wrapping_sub(b), me.cast_signed() - b.cast_signed() >= last.cast_signed()),
                Shuffle::Down => (me + b, me + b <= last),
                Shuffle::Butterfly => (me ^ b, (me ^ b) <= last),
                Shuffle::Index => {
                    let from = me & segment | b & !segment;
                    (from, from <= last)
                }
            };
            let from = if inside { from } else { me };
            if team >> from & 1 == 0 {
                let what = format!(
                    "lane {lane} reads lane {from} by a shuffle in which only lanes {team:#010x} take part"
                );
                return stop(lane, Code::ILLEGAL_INSTRUCTION, what);
            }
            out[lane] = value[from as usize];
            valid |= u32::from(inside) << lane;
        }
        self.put_w(d, &out, team);
        if let Some(p) = in_range {
            self.put_p(p, valid, team);
        }
        Ok(())
    }

    fn match_any(&mut self, d: W, value: &[u64; LANES], team: u32) {
        let mut out = [0; LANES];
        for lane in each(team) {
            out[lane] = each(team)
                .filter(|&other| value[other] == value[lane])
                .fold(0, |mask, other| mask | 1 << other);
        }
        self.put_w(d, &out, team);
    }

    fn match_all(&mut self, d: W, all: Option<super::P>, value: &[u64; LANES], team: u32) {
        let first = value[team.trailing_zeros() as usize];
        let same = each(team).all(|lane| value[lane] == first);
        self.put_w(d, &[if same { team } else { 0 }; LANES], team);
        if let Some(p) = all {
            self.put_p(p, if same { u32::MAX } else { 0 }, team);
        }
    }
}
