//! The main job in its short form: everything is written, and the words that can be learned in seconds are learned.

use std::path::Path;
use std::process::Command;

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_trimodal")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_short_demo_draws_trains_judges_and_describes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let printed = run(&["demo", "--quick", "--device", "cpu", "--out", out, "--seed", "3"]);
    assert!(printed.contains("it is:    a fluffy orange cat laying on its back in the sun yawning"), "{printed}");

    let result = json(&folder.path().join("result.json"));
    assert_eq!(result["device"], "cpu");
    assert_eq!(result["seed"], 3);
    for number in ["parameters", "steps", "train_seconds", "total_seconds", "tokens_per_second"] {
        assert!(result[number].as_f64().unwrap() > 0.0, "{number}");
    }
    for split in ["iid", "held_out_colour", "held_out_action", "held_out_both"] {
        for score in ["samples", "exact", "species", "colour", "texture", "pose", "place", "action"] {
            assert!(result["splits"][split][score].is_number(), "{split}.{score}");
        }
    }
    for ablation in ["shuffled_pictures", "shuffled_sounds"] {
        assert!(result["ablations"][ablation]["action"].is_number());
    }
    // Day and night are learned first; a model that did not look would be right a third of the time.
    let place = result["splits"]["iid"]["place"].as_f64().unwrap();
    assert!(place > 0.8, "place: {place}");
    assert!(result["ablations"]["shuffled_pictures"]["place"].as_f64().unwrap() < 0.65);

    for file in ["report.html", "loss.svg", "contact_sheet.png", "headline.png", "headline.wav", "model/config.toml", "model/log.jsonl", "model/loss.svg"] {
        assert!(folder.path().join(file).metadata().unwrap().len() > 100, "{file}");
    }

    let checkpoint = trimodal::train::checkpoint::latest(&folder.path().join("model")).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "optimizer.safetensors", "trainer_state.json"] {
        assert!(checkpoint.join(file).metadata().unwrap().len() > 100, "{file}");
    }

    // The run works as a model, in words and in JSON, and its step can be dumped.
    let model = folder.path().join("model");
    let (model, data) = (model.to_str().unwrap(), folder.path().join("data"));
    let image = folder.path().join("headline.png");
    let image = image.to_str().unwrap();
    let said = run(&["describe", model, "--image", image, "--device", "cpu"]);
    assert!(said.starts_with("a "), "{said}");
    let prompted = run(&["describe", model, "--image", image, "--prompt", "a fluffy", "--device", "cpu"]);
    assert!(prompted.starts_with("a fluffy "), "{prompted}");
    let described: serde_json::Value = serde_json::from_str(&run(&["describe", model, "--image", image, "--json", "--device", "cpu"])).unwrap();
    assert_eq!(described["text"].as_str().unwrap(), said.trim());
    let step = folder.path().join("step.safetensors");
    run(&["dump", model, data.to_str().unwrap(), "--samples", "2", "--out", step.to_str().unwrap(), "--device", "cpu", "--dtype", "f64"]);
    let tensors = trimodal::files::safetensors::load_safetensors(&step).unwrap();
    for name in
        ["input.token_id", "input.visible", "input.waveform", "embedded", "logits", "loss", "grad.model.embed_tokens.weight", "grad.audio_embed.conv3.bias"]
    {
        assert!(tensors.contains_key(name), "{name}");
    }
}

/// The same seed gives the same model, bit for bit.
#[test]
fn a_training_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    run(&["meadow", &path("data"), "--samples", "60", "--seed", "5"]);
    for out in ["a", "b"] {
        run(&["train", &path("data"), "--out", &path(out), "--steps", "5", "--device", "cpu", "--seed", "9"]);
    }
    let weights = |out: &str| std::fs::read(trimodal::train::checkpoint::latest(&folder.path().join(out)).unwrap().join("model.safetensors")).unwrap();
    assert!(weights("a") == weights("b"));
}
