//! Cards from before a count was complete. Operations and bytes are counted from contracts, not measured: where this build has the same
//! entry at the same sizes, it can count them for a card that it reads.

use super::card::{BenchRow, Card};
use super::operands::footprint;
use super::{OPS, pass};
use crate::ops::Sizes;
use crate::ops::case::Case;
use crate::tensor::DType;

/// Counts again what our own cards of earlier versions lack, and rates their rows by it.
pub(super) fn recount(card: &mut Card) {
    let lacks = |row: &BenchRow| row.bytes.is_some() && row.overwritten_bytes.is_none();
    if !card.tool.starts_with("trimodal ") || !card.rows.iter().any(lacks) {
        return;
    }
    let cpu = card.device.kind == "cpu";
    for sizes in Sizes::ALL {
        for op in OPS {
            let mut rows: Vec<&mut BenchRow> = card.rows.iter_mut().filter(|row| lacks(row) && row.op == op.name && row.set == sizes.name).collect();
            if rows.is_empty() {
                continue;
            }
            for case in (op.sized)(&sizes) {
                rows.iter_mut().for_each(|row| count(row, &case, cpu));
            }
        }
    }
    card.rate();
}

/// Counts a row by a case, if it is of that entry and these sizes.
fn count(row: &mut BenchRow, case: &Case, cpu: bool) {
    // A processor's naive rung is the plain loops of its pass.
    let plain = cpu && row.entry.ends_with(":naive");
    let same_entry = if plain { row.pass == pass(case.entry) } else { row.entry == case.entry };
    let dtype = if row.dtype == "bf16" { DType::Bf16 } else { DType::F32 };
    if row.overwritten_bytes.is_some() || !same_entry || row.shape != case.label || row.bytes != Some(case.bytes(dtype)) {
        return;
    }
    row.flops = case.computed(cpu, plain);
    row.overwritten_bytes = Some(case.overwritten(dtype));
    row.rotated_bytes = Some(row.buffers as u64 * footprint(case, dtype));
}

#[cfg(test)]
mod tests {
    use super::super::card::tests::{card, row};
    use super::*;

    #[test]
    fn an_earlier_card_gets_the_counts_that_it_lacks() {
        let case = (OPS.iter().find(|op| op.name == "log_mel").unwrap().sized)(&Sizes::DEMO).remove(0);
        let of = |entry: &str| BenchRow { bytes: Some(case.bytes(DType::F32)), flops: 7, ..row("log_mel", entry, &case.label, 1e-3) };
        let mut card = card(vec![of("forward"), of("forward:naive"), BenchRow { shape: "others".into(), ..of("forward") }]);
        card.tool = "trimodal 0.0.1".into();
        recount(&mut card);
        assert_eq!([0, 1, 2].map(|i| card.rows[i].flops), [case.computed(true, false), case.computed(true, true), 7]);
        assert_eq!(card.rows[0].rotated_bytes, Some(3 * footprint(&case, DType::F32)));
        assert!(card.rows[0].overwritten_bytes.is_some_and(|b| b > 0) && card.rows[2].overwritten_bytes.is_none());
        let before = card.json();
        recount(&mut card);
        assert_eq!(card.json(), before);
    }
}
