//! What other programs call our keys: whoever types such a name is told ours, and in what it is counted.

/// Names that others use, ours for them, and what to know about it; empty where the name says it.
const TABLE: &[(&[&str], &str, &str)] = &[
    (
        &["batch", "batch_size", "batchsize", "bs", "per_device_train_batch_size", "micro_batch_size", "train_batch_size", "tokens_per_batch"],
        "training.rows",
        "counted in rows of the token matrix, not in samples: a sample has a row for each word, place of its picture and frame of its sound",
    ),
    (
        &["accum", "grad_accum", "accumulation", "accumulation_steps", "gradient_accumulation", "gradient_accumulation_steps", "accumulate_grad_batches"],
        "training.accumulate",
        "counted in batches for one step",
    ),
    (
        &["epoch", "epochs", "num_epochs", "n_epochs", "num_train_epochs", "max_epochs"],
        "training.steps",
        "counted in optimiser steps, not in passes over the data: a step takes as many samples as fit into its rows",
    ),
    (&["max_steps", "num_steps", "n_steps", "iters", "max_iters", "num_iters", "iterations", "train_steps"], "training.steps", "counted in optimiser steps"),
    (&["lr", "rate", "alpha", "eta", "step_size", "max_lr", "peak_lr"], "training.learning_rate", "the highest one, after the warm-up"),
    (&["min_lr", "lr_min", "final_lr", "min_lr_ratio"], "training.floor", "a share of learning_rate"),
    (&["scheduler", "lr_schedule", "lr_scheduler", "lr_scheduler_type", "decay", "lr_decay"], "training.schedule", "\"cosine\", \"linear\" or \"constant\""),
    (
        &["warmup_steps", "warmup_iters", "warmup_ratio", "num_warmup_steps", "warm_up"],
        "training.warmup",
        "in optimiser steps, or below 1 as a share of all of them",
    ),
    (&["wd", "l2", "weightdecay", "regularization"], "training.weight_decay", "decoupled, as AdamW's"),
    (&["clip", "grad_clip", "clip_norm", "clip_grad", "max_grad_norm", "gradient_clip", "gradient_clipping"], "training.max_norm", "of the whole gradient"),
    (&["momentum", "adam_beta1", "b1"], "training.beta1", "AdamW's decay of the first moment"),
    (&["adam_beta2", "b2"], "training.beta2", "AdamW's decay of the second moment"),
    (&["epsilon", "adam_eps", "adam_epsilon"], "training.eps", "AdamW's"),
    (&["random_seed", "random_state", "rng", "manual_seed"], "training.seed", ""),
    (&["dtype", "amp", "fp16", "bf16", "fp32", "mixed_precision", "torch_dtype", "autocast"], "training.precision", "\"auto\", \"f32\" or \"bf16\""),
    (&["gpu", "cuda", "accelerator", "backend"], "training.device", "auto, cpu, wgpu, cuda or emulator"),
    (&["gradient_checkpointing", "activation_checkpointing", "checkpointing", "remat"], "training.recompute", "true or false"),
    (&["modal_dropout", "modality_drop", "sense_dropout", "drop_modality"], "training.modality_dropout", "a share of the visits"),
    (&["caption_dropout", "token_dropout", "mask_words"], "data.word_dropout", "a share of the samples; no layer has dropout"),
    (
        &["dropout", "attention_dropout", "p_dropout"],
        "data.word_dropout",
        "no layer has dropout: what is hidden are words (word_dropout), or a picture or sound (training.modality_dropout)",
    ),
    (&["augmentation", "augmentations", "augs", "aug", "transforms", "transform"], "data.augment", "\"off\", \"light\" or \"strong\""),
    (&["num_workers", "threads", "n_workers", "loader_workers", "dataloader_num_workers"], "data.workers", "threads; 0 for one per core"),
    (&["dataset", "data_dir", "data_path", "train_data", "root"], "data.path", "`trimodal train DATA` sets it"),
    (&["vocab", "vocab_size", "vocabulary", "vocabulary_size"], "data.max_vocabulary", "the most tokens of a trained tokenizer"),
    (&["d_model", "dim", "width", "n_embd", "embed_dim", "hidden", "hidden_dim", "embedding_size"], "model.hidden_size", ""),
    (&["ffn_dim", "mlp_dim", "d_ff", "mlp_size", "ffn_size"], "model.intermediate_size", ""),
    (&["layers", "n_layer", "n_layers", "num_layers", "depth", "blocks"], "model.num_hidden_layers", ""),
    (&["heads", "n_head", "n_heads", "num_heads"], "model.num_attention_heads", ""),
    (
        &["context", "ctx", "block_size", "seq_len", "seq_length", "sequence_length", "max_length", "max_len", "max_seq_len", "context_length", "n_ctx"],
        "model.max_position_embeddings",
        "in rows that a sample may have: picture, sound and words together",
    ),
    (
        &["val", "val_split", "validation", "validation_split", "test_split", "valid_split", "test_size", "val_size"],
        "evaluation.eval_split",
        "the name of a split; held_out takes a share of the rows instead",
    ),
    (
        &["eval_every", "eval_interval", "eval_freq", "evaluate_every", "val_every", "val_check_interval", "logging_steps"],
        "evaluation.eval_steps",
        "in optimiser steps",
    ),
    (&["early_stopping", "early_stopping_patience", "early_stop"], "evaluation.patience", "in evaluations without a better one"),
    (&["save_every", "save_interval", "checkpoint_every", "checkpoint_steps", "save_freq"], "saving.save_steps", "in optimiser steps"),
];

/// Our key for a name that others use, and what to know about it.
pub(super) fn ours(name: &str) -> Option<(&'static str, &'static str)> {
    let plain = name.to_lowercase().replace('-', "_");
    TABLE.iter().find(|(names, ..)| names.contains(&plain.as_str())).map(|(_, key, about)| (*key, *about))
}

#[cfg(test)]
mod tests {
    use super::super::keys::{self, SECTIONS};
    use super::*;
    use std::collections::BTreeSet;

    /// A name is there once and is none of ours, else it would never be asked for; what it stands for exists.
    #[test]
    fn every_synonym_stands_for_one_of_our_keys() {
        let keys: BTreeSet<String> = SECTIONS.iter().flat_map(|(section, _, keys)| keys.iter().map(move |key| format!("{section}.{}", key.0))).collect();
        let mut seen = BTreeSet::new();
        for (names, key, about) in TABLE {
            assert!(keys.contains(*key), "{key}");
            assert!(!about.ends_with('.'), "{about}");
            for name in *names {
                assert!(seen.insert(*name), "{name} is there twice");
                assert!(!keys.iter().any(|key| key.split_once('.').is_some_and(|(_, own)| own == *name)), "{name} is a key of ours");
            }
        }
    }

    #[test]
    fn who_asks_for_a_batch_is_told_about_rows() {
        let said = |key: &str| keys::resolve(key).unwrap_err().to_string();
        for key in ["batch", "training.batch", "batch_size", "Batch-Size"] {
            let said = said(key);
            assert!(said.contains(&format!("unknown key {key:?}: here it is training.rows, counted in rows of the token matrix, not in samples")), "{said}");
        }
        assert!(said("epochs").contains("training.steps, counted in optimiser steps, not in passes over the data"), "{}", said("epochs"));
        assert!(said("lr").contains("here it is training.learning_rate, the highest one"), "{}", said("lr"));
        assert!(said("n_layer").contains("here it is model.num_hidden_layers; `trimodal config`"), "{}", said("n_layer"));
    }
}
