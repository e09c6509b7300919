//! What a trace is told about a step: which tensor is what, and how many pairs of rows see each other.

use super::trainer::Trainer;
use crate::model::Parameters;
use crate::model::batch::Batch;
use crate::observe;

impl Trainer {
    /// Tells a trace which tensor is what.
    pub(super) fn name_tensors(&self, batch: &Batch) {
        let pairs = |seen: &[i32; 2]| (seen[1] - seen[0]).max(0) as u64;
        let last = batch.logit_row.iter().map(|&row| pairs(&batch.visible[row as usize])).sum();
        observe::tell_pairs([(batch.rows(), batch.visible.iter().map(pairs).sum()), (batch.logit_row.len(), last)]);
        let kinds = [
            ("", Some(&self.parameters)),
            ("", self.rounded.as_ref()),
            (observe::GRADIENT, Some(&self.gradients)),
            ("the first moment of ", Some(&self.moments[0])),
            ("the second moment of ", Some(&self.moments[1])),
        ];
        for (kind, parameters) in kinds {
            for (name, tensor) in parameters.map(Parameters::named).unwrap_or_default() {
                observe::name(tensor.id(), || format!("{kind}{name}"));
            }
        }
        if let Some(flat) = &self.flat {
            let all = [("all parameters", &flat.parameters), ("all gradients", &flat.gradients), ("all first moments", &flat.moments[0])];
            let more = [Some(("all second moments", &flat.moments[1])), flat.rounded.as_ref().map(|r| ("all parameters, rounded to bf16", r))];
            for (name, tensor) in all.into_iter().chain(more.into_iter().flatten()) {
                observe::name(tensor.id(), || name.to_string());
            }
        }
        self.activations.name_for_trace();
        for (name, tensor) in [("the gradient's norm", &self.norm), ("AdamW's coefficients", &self.coefficients), ("the rotary table", self.table.tensor())] {
            observe::name(tensor.id(), || name.to_string());
        }
    }
}
