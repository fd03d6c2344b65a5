//! The form of settlements, queues and their counts in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use skerry_model::{Behind, BehindState, Checkpoint, Run, Settlement, Span, Tally};

use crate::format::{Fields, put_text};

pub(crate) fn put_u32(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

pub(crate) fn put_tally(out: &mut Vec<u8>, tally: Tally) {
    put_u64(out, [tally.messages, tally.bytes]);
}

pub(crate) fn tally(fields: &mut Fields<'_>) -> Option<Tally> {
    Some(Tally { messages: fields.u64()?, bytes: fields.u64()? })
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_u32(out, spans.len());
    put_u64(out, spans.iter().flat_map(|span| [span.first, span.last]));
}

fn spans(fields: &mut Fields<'_>) -> Option<Vec<Span>> {
    let count = fields.u32()?;
    (0..count).map(|_| Some(Span { first: fields.u64()?, last: fields.u64()? })).collect()
}

pub(crate) fn put_checkpoint(out: &mut Vec<u8>, checkpoint: &Checkpoint) {
    put_u64(out, [checkpoint.settled_to]);
    put_spans(out, &checkpoint.settled);
    put_u32(out, checkpoint.behind.len());
    for (sender, behind) in &checkpoint.behind {
        put_text(out, sender);
        out.push(match behind.state {
            BehindState::Parked => 0,
            BehindState::CatchingUp => 1,
            BehindState::Joined => 2,
        });
        put_u64(out, [behind.from]);
        put_spans(out, &behind.settled);
    }
}

pub(crate) fn checkpoint(fields: &mut Fields<'_>) -> Option<Checkpoint> {
    let settled_to = fields.u64()?;
    let settled = spans(fields)?;
    let count = fields.u32()?;
    let mut behind = BTreeMap::new();
    for _ in 0..count {
        let sender: Arc<str> = Arc::from(fields.text()?);
        let state = match fields.u8()? {
            0 => BehindState::Parked,
            1 => BehindState::CatchingUp,
            2 => BehindState::Joined,
            _ => return None,
        };
        behind.insert(sender, Behind { from: fields.u64()?, settled: spans(fields)?, state });
    }
    Some(Checkpoint { settled_to, settled, behind })
}

pub(crate) fn put_settlement(out: &mut Vec<u8>, settlement: &Settlement) {
    put_checkpoint(out, &settlement.checkpoint);
    put_u32(out, settlement.runs.len());
    for run in &settlement.runs {
        put_u64(out, [run.first]);
        put_tally(out, run.tally);
    }
    for counted in [settlement.accepted, settlement.expired, settlement.rejected] {
        put_tally(out, counted);
    }
}

pub(crate) fn settlement(fields: &mut Fields<'_>) -> Option<Settlement> {
    let checkpoint = checkpoint(fields)?;
    let count = fields.u32()?;
    let runs: Option<Vec<Run>> =
        (0..count).map(|_| Some(Run { first: fields.u64()?, tally: tally(fields)? })).collect();
    let runs = runs?;
    Some(Settlement { checkpoint, runs, accepted: tally(fields)?, expired: tally(fields)?, rejected: tally(fields)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_spans() -> impl Strategy<Value = Vec<Span>> {
        prop::collection::vec((any::<u64>(), any::<u64>()).prop_map(|(first, last)| Span { first, last }), 0..4)
    }

    fn some_behind() -> impl Strategy<Value = Behind> {
        let state = prop::sample::select(vec![BehindState::Parked, BehindState::CatchingUp, BehindState::Joined]);
        (any::<u64>(), some_spans(), state).prop_map(|(from, settled, state)| Behind { from, settled, state })
    }

    proptest! {
        #[test]
        fn a_settlement_reads_back(
            settled_to in any::<u64>(),
            settled in some_spans(),
            behind in prop::collection::btree_map("[a-z/]{0,9}", some_behind(), 0..4),
            runs in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..4),
            counted in any::<[u64; 3]>(),
        ) {
            let behind = behind.into_iter().map(|(sender, behind)| (Arc::from(sender), behind)).collect();
            let run = |(first, messages, bytes)| Run { first, tally: Tally { messages, bytes } };
            let count = |messages| Tally { messages, bytes: 1 };
            let whole = Settlement {
                checkpoint: Checkpoint { settled_to, settled, behind },
                runs: runs.into_iter().map(run).collect(),
                accepted: count(counted[0]),
                expired: count(counted[1]),
                rejected: count(counted[2]),
            };
            let mut out = Vec::new();
            put_settlement(&mut out, &whole);
            let mut fields = Fields(&out);
            prop_assert_eq!(settlement(&mut fields), Some(whole));
            prop_assert!(fields.0.is_empty());
            let cut = out.len() - 1;
            prop_assert_eq!(settlement(&mut Fields(&out[..cut])), None);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = settlement(&mut Fields(&bytes));
        }
    }
}
