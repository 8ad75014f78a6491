//! What a person does wrong, and what the program says to it. Every case runs the real binary in a fresh folder; it must
//! end with exit code 1, and all it prints to standard error is in a snapshot, one file a table.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fmt::Write, fs};
use support::{Dir, examples, find};

/// A mistake, how it comes about, and the command that meets it. The command's folder holds the tiny BERT as `model` and
/// thirty good examples as `train.csv`.
struct Case(&'static str, &'static str, fn(&Dir));

/// The usual command.
const TUNE: &str = "finetune --model model --train train.csv";

fn nothing(_: &Dir) {}

/// Runs a table and holds its transcript against the snapshot of this name.
fn check(table: &str, environment: &[(&str, &str)], cases: &[Case]) {
    let mut out = String::new();
    let mut wrong = String::new();
    for Case(name, command, prepare) in cases {
        let dir = Dir::new();
        prepare(&dir);
        let command = command.replace("TUNE", TUNE);
        let output = dir
            .command(env!("CARGO_BIN_EXE_rekindle"))
            .args(command.split_whitespace())
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let text = dir.plain(&output.stderr);
        if output.status.code() != Some(1) {
            writeln!(wrong, "{name}: {}\n{text}", output.status).unwrap();
        }
        // Whatever the mistake: a remedy, and nothing that only a programmer reads.
        // A list of mistakes in settings says of each what is expected.
        if !(text.contains("hint: ")
            || text.contains("in the configuration:") && text.contains("expected "))
        {
            writeln!(wrong, "{name}: no hint\n{text}").unwrap();
        }
        for debris in [
            "panicked",
            "Some(",
            "None",
            "Error {",
            "Err(",
            "\\\"",
            "RUST_BACKTRACE",
            "internal error",
        ] {
            if text.contains(debris) {
                writeln!(wrong, "{name}: `{debris}`\n{text}").unwrap();
            }
        }
        if !output.stdout.is_empty() {
            writeln!(
                wrong,
                "{name}: printed to standard output\n{}",
                dir.plain(&output.stdout)
            )
            .unwrap();
        }
        writeln!(out, "# {name}\n$ rekindle {command}\n{text}").unwrap();
    }
    insta::assert_snapshot!(table, out);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Rows after the header of `train.csv`, which good rows follow.
fn rows(dir: &Dir, bad: impl AsRef<[u8]>) {
    let good = examples();
    let (header, rest) = good.split_once('\n').unwrap();
    dir.write(
        "train.csv",
        [header.as_bytes(), b"\n", bad.as_ref(), rest.as_bytes()].concat(),
    );
}

#[test]
fn data() {
    check(
        "data",
        &[],
        &[
            Case(
                "no such file",
                "finetune --model model --train trian.csv",
                nothing,
            ),
            Case(
                "a folder instead of a file",
                "finetune --model model --train folder",
                |d| d.write("folder/train.csv", examples()),
            ),
            Case(
                "an unknown extension",
                "finetune --model model --train train.xlsx",
                |d| d.write("train.xlsx", "PK"),
            ),
            Case("an empty file", "TUNE", |d| d.write("train.csv", "")),
            Case("only a header", "TUNE", |d| {
                d.write("train.csv", "text,label\n")
            }),
            Case("no such column", "TUNE --label intent", nothing),
            Case("a column misspelt", "TUNE --text txet", nothing),
            Case(
                "a column by a number that is too high",
                "TUNE --label 7",
                nothing,
            ),
            Case("no column that looks like a label", "TUNE", |d| {
                d.write(
                    "train.csv",
                    "text,comment\nsome words here,more words there\nother words now,and the rest of it\n",
                )
            }),
            Case("one class only", "TUNE", |d| {
                d.write(
                    "train.csv",
                    "text,label\ngood,praise\nvery good,praise\nthanks,praise\n",
                )
            }),
            Case("too few examples to split", "TUNE", |d| {
                d.write("train.csv", "text,label\ngood,praise\nbad,complaint\n")
            }),
            Case("bytes that are not UTF-8", "TUNE", |d| {
                rows(d, b"gro\xdfer tag,praise\n")
            }),
            Case("UTF-16", "TUNE", |d| {
                d.write("train.csv", b"\xff\xfet\0e\0x\0t\0")
            }),
            Case("too many fields", "TUNE", |d| {
                rows(d, "good, very good,praise\n")
            }),
            Case("too few fields", "TUNE", |d| rows(d, "good\n")),
            Case("a quote that is never closed", "TUNE", |d| {
                rows(d, "\"good,praise\n")
            }),
            Case("text after a quote", "TUNE", |d| {
                rows(d, "\"good\" thing,praise\n")
            }),
            Case("an empty text", "TUNE", |d| rows(d, "  ,praise\n")),
            Case("a missing label", "TUNE", |d| rows(d, "good,\n")),
            Case(
                "every row bad, and skipped",
                "TUNE --set data.on_bad_example=skip",
                |d| d.write("train.csv", "text,label\ngood,\nbad,\n"),
            ),
            Case(
                "broken JSON",
                "finetune --model model --train train.jsonl",
                |d| {
                    d.write("train.jsonl", "{\"text\": \"good\", \"label\": \"praise\"}\n{\"text\": \"bad\", \"label\": }\n");
                },
            ),
            Case(
                "a JSON array",
                "finetune --model model --train train.jsonl",
                |d| {
                    d.write(
                        "train.jsonl",
                        "[{\"text\": \"good\", \"label\": \"praise\"}]",
                    )
                },
            ),
            Case(
                "a field missing in a line",
                "finetune --model model --train train.jsonl",
                |d| {
                    d.write(
                        "train.jsonl",
                        "{\"text\": \"good\", \"label\": \"praise\"}\n{\"label\": \"complaint\"}\n",
                    );
                },
            ),
            Case(
                "a number where text is expected",
                "finetune --model model --train train.jsonl",
                |d| {
                    d.write("train.jsonl", "{\"text\": \"good\", \"label\": \"praise\"}\n{\"text\": [1], \"label\": \"complaint\"}\n");
                },
            ),
            Case(
                "a Parquet file cut off",
                "finetune --model model --train train.parquet",
                |d| d.write("train.parquet", b"PAR1\x15\x04\x15\x20\x15"),
            ),
            Case(
                "a validation label that training does not know",
                "TUNE --validation valid.csv",
                |d| d.write("valid.csv", "text,label\ngood,prase\n"),
            ),
            Case(
                "too few examples for a fraction",
                "TUNE --set data.validation_fraction=0.01 --set data.train_limit=4",
                nothing,
            ),
        ],
    );
}

#[test]
fn weights() {
    const WEIGHTS: &str = "model/model.safetensors";
    const QUERY: &str = "bert.encoder.layer.0.attention.self.query.weight";
    check(
        "weights",
        &[],
        &[
            Case("NaN in the weights", "TUNE", |d| {
                d.tensors(WEIGHTS, |t| {
                    find(t, QUERY).bytes[40..44].copy_from_slice(&f32::NAN.to_le_bytes())
                })
            }),
            Case("weights cut off", "TUNE", |d| d.cut(WEIGHTS, 20_000)),
            Case("weights cut off in the header", "TUNE", |d| {
                d.cut(WEIGHTS, 100)
            }),
            Case("empty weights", "TUNE", |d| d.write(WEIGHTS, "")),
            Case("no weights", "TUNE", |d| d.remove(WEIGHTS)),
            Case("a page of HTML for weights", "TUNE", |d| {
                d.write(
                    WEIGHTS,
                    "<!DOCTYPE html><html><body>404 not found</body></html>",
                )
            }),
            Case("a tensor of another shape", "TUNE", |d| {
                d.tensors(WEIGHTS, |t| find(t, QUERY).shape = vec![16, 64])
            }),
            Case("a tensor missing", "TUNE", |d| {
                d.tensors(WEIGHTS, |t| t.retain(|t| t.name != QUERY))
            }),
            Case("a tensor with no place", "TUNE", |d| {
                d.tensors(WEIGHTS, |t| {
                    find(t, QUERY).name = QUERY.replace("layer.0", "layer.7")
                })
            }),
            Case("more tensors than the model has", "TUNE", |d| {
                d.json("model/config.json", |c| {
                    drop(c.insert("num_hidden_layers".into(), 1.into()))
                })
            }),
            Case("whole numbers for weights", "TUNE", |d| {
                d.tensors(WEIGHTS, |t| {
                    let tensor = find(t, QUERY);
                    tensor.dtype = "I8".into();
                    tensor.bytes.truncate(1024);
                });
            }),
            Case("a tokenizer of another model", "TUNE", |d| {
                d.remove("model/tokenizer.json");
                let words: String = (0..50).map(|i| format!("word{i}\n")).collect();
                d.write(
                    "model/vocab.txt",
                    fs::read_to_string(d.path("model/vocab.txt")).unwrap() + &words,
                );
            }),
            Case("a tokenizer that is not JSON", "TUNE", |d| {
                d.cut("model/tokenizer.json", 100)
            }),
            Case("no tokenizer", "TUNE", |d| {
                d.remove("model/tokenizer.json");
                d.remove("model/vocab.txt");
            }),
            Case("no config.json", "TUNE", |d| d.remove("model/config.json")),
            Case("a config.json that is not JSON", "TUNE", |d| {
                d.cut("model/config.json", 30)
            }),
            Case("a config.json that is a list", "TUNE", |d| {
                d.write("model/config.json", "[]")
            }),
            Case("another model type", "TUNE", |d| {
                d.json("model/config.json", |c| {
                    drop(c.insert("model_type".into(), "mamba".into()))
                })
            }),
            Case("a width that the heads do not divide", "TUNE", |d| {
                d.json("model/config.json", |c| {
                    drop(c.insert("num_attention_heads".into(), 5.into()))
                })
            }),
            Case("a size missing", "TUNE", |d| {
                d.json("model/config.json", |c| drop(c.remove("hidden_size")))
            }),
            Case("an activation we do not have", "TUNE", |d| {
                d.json("model/config.json", |c| {
                    drop(c.insert("hidden_act".into(), "mish".into()))
                })
            }),
            Case("label ids with a gap", "TUNE", |d| {
                d.json("model/config.json", |c| {
                    drop(c["id2label"].as_object_mut().unwrap().remove("1"))
                })
            }),
            Case(
                "a file instead of a model directory",
                "finetune --model model/model.safetensors --train train.csv",
                nothing,
            ),
        ],
    );
}

#[test]
fn settings() {
    check(
        "settings",
        &[],
        &[
            Case("an unknown key", "finetune --config run.toml", |d| {
                d.write("run.toml", "[train]\nlearning_rat = 1e-3\n")
            }),
            Case(
                "a key by its name elsewhere",
                "finetune --config run.toml",
                |d| d.write("run.toml", "[train]\nnum_train_epochs = 3\n"),
            ),
            Case("an unknown section", "finetune --config run.toml", |d| {
                d.write("run.toml", "[trian]\nepochs = 3\n")
            }),
            Case(
                "a value of the wrong type",
                "finetune --config run.toml",
                |d| d.write("run.toml", "[train]\nbatch_size = \"many\"\n"),
            ),
            Case("a value out of range", "finetune --config run.toml", |d| {
                d.write("run.toml", "[train]\nlearning_rate = -1.0\n")
            }),
            Case("a choice misspelt", "finetune --config run.toml", |d| {
                d.write("run.toml", "[train]\nschedule = \"cosin\"\n")
            }),
            Case("not TOML", "finetune --config run.toml", |d| {
                d.write("run.toml", "[train\nepochs = 3\n")
            }),
            Case("no such run file", "finetune --config rnu.toml", |d| {
                d.write("run.toml", "")
            }),
            Case(
                "several mistakes at once",
                "finetune --config run.toml --device gpu --set peft.r=0",
                |d| {
                    d.write("run.toml", "seed = -1\n[data]\ntrain = \"train.csv\"\ndataset = \"intents\"\n[train]\nepochs = 0\nbatchsize = 8\n");
                },
            ),
            Case(
                "an override without a value",
                "TUNE --set train.epochs",
                nothing,
            ),
            Case(
                "an override of an unknown key",
                "TUNE --set train.epoch=3",
                nothing,
            ),
            Case("rank 0", "TUNE --set peft.r=0", nothing),
            Case(
                "a rank beyond every layer",
                "TUNE --set peft.r=1000000000000000000",
                nothing,
            ),
            Case(
                "pictures of a size that no memory holds",
                "finetune --model resnet --task image-classification --train train.csv --set images.size=100000",
                nothing,
            ),
            Case(
                "LoRA dropout of 1",
                "TUNE --set peft.lora_dropout=1",
                nothing,
            ),
            Case("no epochs", "TUNE --epochs 0", nothing),
            Case("a method misspelt", "TUNE --method lroa", nothing),
            Case("a device misspelt", "TUNE --device cpuu", nothing),
            Case(
                "a maximum length with no room",
                "TUNE --set data.max_length=2",
                nothing,
            ),
            Case(
                "a target that no layer has",
                "TUNE --set peft.target_modules=[\"qeury\"]",
                nothing,
            ),
            Case(
                "a target pattern that no layer matches",
                "TUNE --set peft.target_modules=.*attn.*",
                nothing,
            ),
            Case(
                "a target pattern that is no regular expression",
                "TUNE --set peft.target_modules=layer.(0",
                nothing,
            ),
            Case(
                "a layer that is not there",
                "TUNE --set peft.layers_to_transform=[1,9]",
                nothing,
            ),
            Case(
                "a module to save that is not there",
                "TUNE --set peft.modules_to_save=[\"clasifier\"]",
                nothing,
            ),
            Case(
                "a freeze pattern that matches nothing",
                "TUNE --method full --set peft.freeze=[\"bert.encoder.layers.0\"]",
                nothing,
            ),
            Case(
                "everything frozen",
                "TUNE --method full --set peft.freeze=[\"*\"]",
                nothing,
            ),
            Case(
                "a base parameter trained beside an adapter",
                "TUNE --set peft.unfreeze=[\"bert.encoder.layer.1.output\"]",
                nothing,
            ),
            Case(
                "a model that is not known",
                "finetune --model minlm --train train.csv",
                nothing,
            ),
            Case(
                "a model that is not here",
                "finetune --model minilm --train train.csv",
                nothing,
            ),
            Case(
                "a model of the hub that is not here",
                "finetune --model google-bert/bert-base-uncased --train train.csv",
                nothing,
            ),
            Case(
                "a model path that is not here",
                "finetune --model ./modle --train train.csv",
                nothing,
            ),
            Case(
                "a dataset that is not known",
                "finetune --model model --dataset intnets",
                nothing,
            ),
            Case("fetching offline", "fetch minilm", nothing),
        ],
    );
}

/// The list of devices is that of the default build.
#[test]
#[cfg(not(any(feature = "cuda", feature = "wgpu")))]
fn devices() {
    check(
        "devices",
        &[],
        &[
            Case(
                "a device that is not in this build",
                "TUNE --device cuda",
                nothing,
            ),
            Case(
                "a second device that is not in this build",
                "predict model good --device cuda:1",
                nothing,
            ),
            Case(
                "a device for an evaluation",
                "evaluate model train.csv --device wgpu",
                nothing,
            ),
        ],
    );
}

#[test]
fn no_network() {
    let environment = [
        ("HF_HUB_OFFLINE", "0"),
        ("HF_ENDPOINT", "http://127.0.0.1:9"),
        ("REKINDLE_PYTHON", "/nonexistent"),
    ];
    check(
        "no_network",
        &environment,
        &[
            Case(
                "no network, and no Python",
                "finetune --model minilm --train train.csv",
                nothing,
            ),
            Case("no network", "fetch google-bert/bert-base-uncased", nothing),
        ],
    );
}

/// A quick run in `run`.
fn run(dir: &Dir) {
    dir.ok(&format!("{TUNE} --epochs 1 -o run"));
}

#[test]
fn run_directories() {
    /// A run that was killed before it wrote its report.
    fn unfinished(d: &Dir) {
        run(d);
        d.remove("run/report.html");
    }
    check(
        "run_directories",
        &[],
        &[
            Case("a file in place of the run directory", "TUNE -o run", |d| {
                d.write("run", "")
            }),
            Case("a file in place of its parent", "TUNE -o runs/one", |d| {
                d.write("runs", "")
            }),
            Case("a run directory that holds a run", "TUNE -o run", run),
            Case("a run directory in use", "TUNE -o run", |d| d.hold("run")),
            Case("resuming what is in use", "finetune --resume run", |d| {
                unfinished(d);
                d.hold("run");
            }),
            Case(
                "resuming what is no run",
                "finetune --resume model",
                nothing,
            ),
            Case(
                "resuming what is not there",
                "finetune --resume rnu",
                nothing,
            ),
            Case("resuming with other data", "finetune --resume run", |d| {
                unfinished(d);
                d.write("train.csv", examples().replace("thanks", "hello"));
            }),
            Case(
                "resuming with other settings",
                "finetune --resume run",
                |d| {
                    unfinished(d);
                    let config = fs::read_to_string(d.path("run/config.toml")).unwrap();
                    d.write("run/config.toml", config.replace("seed = 42", "seed = 43"));
                },
            ),
            Case(
                "resuming with a broken checkpoint",
                "finetune --resume run",
                |d| {
                    unfinished(d);
                    d.cut("run/checkpoints/step-00000001/trainable.safetensors", 100);
                },
            ),
            Case(
                "predicting from a run without an end",
                "predict run good",
                |d| {
                    run(d);
                    d.remove("run/final");
                },
            ),
            Case("inspecting an empty folder", "inspect empty", |d| {
                fs::create_dir(d.path("empty")).unwrap()
            }),
            Case("inspecting what is not there", "inspect rnu", nothing),
            Case(
                "inspecting a file that holds no tensors",
                "inspect train.csv",
                nothing,
            ),
        ],
    );
}

#[test]
fn saved_models() {
    const ADAPTER: &str = "adapter/adapter_model.safetensors";
    const CONFIG: &str = "adapter/adapter_config.json";
    fn headless(dir: &Dir) {
        dir.json("model/config.json", |c| drop(c.remove("id2label")));
        dir.tensors("model/model.safetensors", |t| {
            t.retain(|t| !t.name.starts_with("classifier"))
        });
    }
    check(
        "saved_models",
        &[],
        &[
            Case(
                "a label that the model does not know",
                "evaluate model train.csv",
                nothing,
            ),
            Case(
                "evaluating without labels",
                "evaluate model texts.csv",
                |d| d.write("texts.csv", "text\ngood\nvery bad card\n"),
            ),
            Case(
                "a base model without a head",
                "predict model good",
                headless,
            ),
            Case(
                "a base model that names labels but has no head",
                "predict model good",
                |d| {
                    d.tensors("model/model.safetensors", |t| {
                        t.retain(|t| !t.name.starts_with("classifier"))
                    });
                },
            ),
            Case("predicting with no model", "predict modle good", nothing),
            Case("predicting an empty folder", "predict empty good", |d| {
                fs::create_dir(d.path("empty")).unwrap()
            }),
            Case(
                "a file of texts that is not there",
                "predict model --file texts.txt",
                nothing,
            ),
            Case("an adapter for another base", "predict adapter good", |d| {
                d.adapter();
                d.tensors(ADAPTER, |t| {
                    for t in t.iter_mut().filter(|t| t.name.ends_with("lora_A.weight")) {
                        t.shape = vec![4, 16];
                        t.bytes.truncate(256);
                    }
                });
            }),
            Case(
                "an adapter for more layers than the base has",
                "predict adapter good",
                |d| {
                    d.adapter();
                    d.tensors(ADAPTER, |t| {
                        t.iter_mut()
                            .for_each(|t| t.name = t.name.replace("layer.1", "layer.5"))
                    });
                },
            ),
            Case(
                "an adapter whose base is not here",
                "predict adapter good",
                |d| {
                    d.adapter();
                    d.json(CONFIG, |c| {
                        drop(c.insert("base_model_name_or_path".into(), "someone/tiny-bert".into()))
                    });
                },
            ),
            Case(
                "an adapter that names no base",
                "predict adapter good",
                |d| {
                    d.adapter();
                    d.json(CONFIG, |c| drop(c.remove("base_model_name_or_path")));
                },
            ),
            Case("an adapter that is not LoRA", "predict adapter good", |d| {
                d.adapter();
                d.json(CONFIG, |c| {
                    drop(c.insert("peft_type".into(), "PREFIX_TUNING".into()))
                });
            }),
            Case("an adapter with DoRA", "predict adapter good", |d| {
                d.adapter();
                d.json(CONFIG, |c| drop(c.insert("use_dora".into(), true.into())));
            }),
            Case(
                "an adapter without its tensors",
                "predict adapter good",
                |d| {
                    d.adapter();
                    d.remove(ADAPTER);
                },
            ),
            Case("merging a whole model", "merge model --to merged", nothing),
            Case(
                "merging into a folder that is not empty",
                "merge adapter --to model",
                Dir::adapter,
            ),
            Case(
                "a run file for data without a header",
                "init notes.csv",
                |d| {
                    d.write("notes.csv", "a,b\nsome words here,more words there\nother words now,and the rest of it\n")
                },
            ),
            Case("a run file that is there already", "init train.csv", |d| {
                d.write("rekindle.toml", "")
            }),
            Case(
                "a run file in a folder that is not there",
                "init train.csv -o configs/run.toml",
                nothing,
            ),
        ],
    );
}

/// A page that cannot be written costs nothing but the page.
#[test]
fn a_report_that_cannot_be_written() {
    let dir = Dir::new();
    dir.ok(&format!("{TUNE} --epochs 1 -o run"));
    let page = dir.path("run/report.html");
    fs::remove_file(&page).unwrap();
    fs::create_dir_all(&page).unwrap();
    let said = dir.refused("finetune --resume run");
    assert!(
        said.contains("report.html") && said.contains("the model is saved in run/final"),
        "{said}"
    );
    fs::remove_dir(&page).unwrap();
    dir.ok("finetune --resume run");
    assert!(page.is_file());
}

/// Files may not grow over 16 KiB, as on a full disk: the configuration fits, a checkpoint and the model do not.
#[test]
#[cfg(unix)]
fn a_full_disk() {
    let mut out = String::new();
    for method in ["lora --set peft.r=64", "full"] {
        let dir = Dir::new();
        let output = dir
            .command("sh")
            // With the signal ignored, the system says EFBIG where a full disk says ENOSPC.
            .args([
                "-c",
                "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\"",
                env!("CARGO_BIN_EXE_rekindle"),
            ])
            .args(format!("{TUNE} --epochs 1 -o run --method {method}").split_whitespace())
            .output()
            .unwrap();
        let text = dir.plain(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            !dir.path("run/final").exists(),
            "a half-written model was left"
        );
        let left: Vec<_> = fs::read_dir(dir.path("run/checkpoints")).unwrap().collect();
        assert!(
            left.is_empty(),
            "a half-written checkpoint was left: {left:?}"
        );
        let told = text
            .lines()
            .filter(|line| !line.contains("validation loss"))
            .collect::<Vec<_>>()
            .join("\n");
        writeln!(out, "# {method}\n{told}\n").unwrap();
    }
    // Figures of speed and loss vary.
    let plain = out
        .lines()
        .filter(|line| !line.starts_with("step 1/"))
        .collect::<Vec<_>>()
        .join("\n");
    // So does the name of the temporary file.
    let plain: Vec<&str> = plain
        .lines()
        .map(|line| line.split(" at path ").next().unwrap_or(line))
        .collect();
    insta::assert_snapshot!("a_full_disk", plain.join("\n"));
}

#[test]
fn pictures() {
    const PICTURES: &str = "finetune --model resnet --train pictures";
    const NAMED: &str = "finetune --config run.toml";
    fn run_file(d: &Dir, rest: &str) {
        d.pictures();
        d.write("run.toml", format!("task = \"image-classification\"\nmodel.name = \"resnet\"\ndata.train = \"pictures\"\n{rest}\n"));
    }
    check(
        "pictures",
        &[],
        &[
            Case(
                "no such folder",
                "finetune --config run.toml --train picturs",
                |d| run_file(d, ""),
            ),
            Case("an empty folder", PICTURES, |d| {
                d.pictures();
                d.remove("pictures");
                fs::create_dir(d.path("pictures")).unwrap();
            }),
            Case(
                "pictures without folders by label",
                "finetune --model resnet --train pictures/red",
                Dir::pictures,
            ),
            Case("one label only", PICTURES, |d| {
                d.pictures();
                d.remove("pictures/blue");
            }),
            Case("a folder without pictures", PICTURES, |d| {
                d.pictures();
                d.write("pictures/green/readme.txt", "none yet");
            }),
            Case("pictures cut off", PICTURES, |d| {
                d.pictures();
                for class in ["red", "blue"] {
                    (0..12).for_each(|i| d.cut(&format!("pictures/{class}/{i:02}.png"), 100));
                }
            }),
            Case("a page of HTML for a picture", PICTURES, |d| {
                d.pictures();
                d.write("pictures/red/05.png", "<!DOCTYPE html><html>404</html>");
            }),
            Case("an empty picture", PICTURES, |d| {
                d.pictures();
                d.write("pictures/red/05.png", "");
            }),
            Case("a picture of another format", PICTURES, |d| {
                d.pictures();
                d.write("pictures/red/scan.tiff", b"II*\0\x08\0\0\0");
            }),
            Case(
                "a table that names a picture which is not there",
                NAMED,
                |d| {
                    run_file(d, "");
                    d.write("table.csv", "path,label\npictures/red/00.png,warm\npictures/red/99.png,warm\npictures/blue/00.png,cold\n");
                    d.write("run.toml", "task = \"image-classification\"\nmodel.name = \"resnet\"\ndata.train = \"table.csv\"\n");
                },
            ),
            Case(
                "a text model for pictures",
                "finetune --model model --train pictures",
                Dir::pictures,
            ),
            Case(
                "an image model for texts",
                "finetune --model resnet --train train.csv",
                Dir::pictures,
            ),
            Case(
                "a validation label that training does not know",
                NAMED,
                |d| {
                    run_file(d, "");
                    for part in ["train/red", "train/blue", "val/red", "val/green"] {
                        let from = if part.ends_with("red") { "red" } else { "blue" };
                        for name in ["00.png", "01.png"] {
                            d.write(
                                &format!("parts/{part}/{name}"),
                                fs::read(d.path(&format!("pictures/{from}/{name}"))).unwrap(),
                            );
                        }
                    }
                    d.write("run.toml", "task = \"image-classification\"\nmodel.name = \"resnet\"\ndata.train = \"parts\"\n");
                },
            ),
            Case(
                "adapters on a layer that an image model does not have",
                "finetune --model resnet --train pictures --method lora --set peft.target_modules=[\"cnov1\"]",
                Dir::pictures,
            ),
            Case("more stages than there are", NAMED, |d| {
                run_file(d, "peft.train_last = 9")
            }),
            Case(
                "pictures' settings for texts",
                "TUNE --set images.size=64",
                nothing,
            ),
            Case("text settings for pictures", NAMED, |d| {
                run_file(d, "data.max_length = 64\nmodel.pooling = \"mean\"")
            }),
            Case("augmentation of no such name", NAMED, |d| {
                run_file(d, "images.augment = \"strong\"")
            }),
            Case("a probability above 1", NAMED, |d| {
                run_file(d, "images.horizontal_flip = 1.5")
            }),
            Case("a picture smaller than the model can see", NAMED, |d| {
                run_file(d, "images.size = 4")
            }),
            Case("an average that never moves", NAMED, |d| {
                run_file(d, "train.ema_decay = 1.0")
            }),
            Case(
                "an image dataset for texts",
                "finetune --dataset card/dataset.toml",
                |d| {
                    d.pictures();
                    d.write("card/dataset.toml", "name = 'card'\nkind = 'images'\ndescription = 'd'\nlicence = 'MIT'\n[files]\ntrain = '../pictures'\n");
                },
            ),
            Case(
                "predictions for a folder without pictures",
                "predict resnet folder",
                |d| {
                    d.pictures();
                    d.write("folder/readme.txt", "none");
                },
            ),
            Case("weights of another width", PICTURES, |d| {
                d.pictures();
                d.tensors("resnet/model.safetensors", |t| {
                    find(
                        t,
                        "resnet.encoder.stages.1.layers.0.layer.0.convolution.weight",
                    )
                    .shape = vec![4, 8, 3, 3];
                });
            }),
            Case("weights of which one is missing", PICTURES, |d| {
                d.pictures();
                d.tensors("resnet/model.safetensors", |t| {
                    t.retain(|t| !t.name.contains("0.layer.1.normalization.running_var"))
                });
            }),
        ],
    );
}
