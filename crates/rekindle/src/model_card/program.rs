//! The Python program on a card: it loads the model with transformers, PEFT or timm, and asks it.

use super::{BaseName, Loading, quoted};
use crate::task::{Kind, Modality};
use std::fmt::Write;

impl Loading<'_> {
    /// A program that loads the model and asks it.
    pub(super) fn python(&self) -> String {
        match (self.task.kind(), self.task.modality()) {
            (Kind::Generation | Kind::Preference, _) => self.python_that_writes(),
            (kind, Modality::Images) => self.python_of_pictures(kind),
            (Kind::Tags, _) => self.python_of_tokens(),
            (Kind::Extraction, _) => self.python_of_answers(),
            (Kind::Choice, _) => self.python_of_choices(),
            (Kind::Embedding, _) => {
                "from sentence_transformers import SentenceTransformer\n\nfolder = \".\"\n\
                 model = SentenceTransformer(folder)\n\
                 vectors = model.encode([\"a text\", \"another text\"])\n\
                 print(vectors.shape, float(model.similarity(vectors[0], vectors[1])))\n"
                    .to_owned()
            }
            (kind, Modality::Text) => {
                let pair = match self.pairs {
                    true => "\"a text\", \"its second text\"",
                    false => "\"a text\"",
                };
                format!(
                    "import json\n\nimport torch\n{}\n\nfolder = \".\"\n\
                     tokenizer = AutoTokenizer.from_pretrained(folder)\n{}\
                     inputs = tokenizer({pair}, truncation=True, max_length={}, return_tensors=\"pt\")\n\
                     with torch.inference_mode():\n    logits = model(**inputs).logits[0]\n{}",
                    self.imports("AutoModelForSequenceClassification"),
                    self.load("AutoModelForSequenceClassification"),
                    self.max_length,
                    asked(kind)
                )
            }
        }
    }

    /// A program that looks at a picture.
    fn python_of_pictures(&self, kind: Kind) -> String {
        let of_transformers = self.pictures.filter(|pictures| pictures.of_transformers);
        if of_transformers.is_some() {
            let (processor, peft) = match self.base_of_adapter {
                None => ("folder", ""),
                Some(base) => ("base.name_or_path", imports_of_peft(base)),
            };
            return format!(
                "import json\n\nimport torch\n{peft}from PIL import Image\n\
                 from transformers import AutoImageProcessor, AutoModelForImageClassification\n\nfolder = \".\"\n{}\
                 processor = AutoImageProcessor.from_pretrained({processor})\n\
                 picture = Image.open(\"picture.jpg\").convert(\"RGB\")\n\
                 inputs = processor(picture, return_tensors=\"pt\")\n\
                 with torch.inference_mode():\n    logits = model(**inputs).logits[0]\n{}",
                self.load("AutoModelForImageClassification"),
                asked(kind)
            );
        }
        let (peft, load) = match (self.base_of_adapter, self.pictures) {
            (Some(base), Some(pictures)) => {
                let name = match &base.python {
                    Some((name, _)) => quoted(&format!("hf-hub:{name}")),
                    None => "f\"local-dir:{PeftConfig.from_pretrained(folder).base_model_name_or_path}\"".to_owned(),
                };
                let (size, crop) = (pictures.size, pictures.crop);
                let of_size = match pictures.of_size {
                    true => format!(", img_size={size}"),
                    false => String::new(),
                };
                let load = format!(
                    "base = timm.create_model({name}, pretrained=True, num_classes={}{of_size})\n\
                     model = PeftModel.from_pretrained(base, folder).eval()\n\
                     settings = timm.data.resolve_model_data_config(base)\n\
                     settings.update(input_size=(3, {size}, {size}), crop_pct={crop})\n",
                    self.labels
                );
                (imports_of_peft(base), load)
            }
            _ => (
                "",
                "model = timm.create_model(f\"local-dir:{folder}\", pretrained=True).eval()\n\
                 settings = timm.data.resolve_model_data_config(model)\n"
                    .to_owned(),
            ),
        };
        format!(
            "import json\n\nimport timm\nimport torch\n{peft}from PIL import Image\n\nfolder = \".\"\n{load}\
             transform = timm.data.create_transform(**settings, is_training=False)\n\
             picture = Image.open(\"picture.jpg\").convert(\"RGB\")\n\
             with torch.inference_mode():\n    logits = model(transform(picture).unsqueeze(0))[0]\n{}",
            asked(kind)
        )
    }

    /// A program that prints the spans of a text. The windows of a long text are the pipeline's own.
    fn python_of_tokens(&self) -> String {
        // The base of an adapter does not know what the outputs are called.
        let (json, named) = match self.base_of_adapter {
            None => ("", ""),
            Some(_) => (
                "import json\n\n",
                "labels = json.load(open(f\"{folder}/rekindle.json\", encoding=\"utf-8\"))[\"labels\"]\n\
                 model.config.id2label = dict(enumerate(labels))\n",
            ),
        };
        format!(
            "{json}{}, pipeline\n\nfolder = \".\"\ntokenizer = AutoTokenizer.from_pretrained(folder)\n{}{named}\
             ask = pipeline(\"token-classification\", model=model, tokenizer=tokenizer, aggregation_strategy=\"first\")\n\
             for span in ask(\"a text\"):\n    print(span[\"start\"], span[\"end\"], span[\"entity_group\"], span[\"word\"], float(span[\"score\"]))\n",
            self.imports("AutoModelForTokenClassification"),
            self.load("AutoModelForTokenClassification"),
        )
    }

    /// A program that prints the answer to a question about a text of one window.
    fn python_of_answers(&self) -> String {
        format!(
            "import torch\n{}\n\nfolder = \".\"\ntokenizer = AutoTokenizer.from_pretrained(folder)\n{}\
             question, context = \"a question\", \"a text that answers it\"\n\
             inputs = tokenizer(\n    question, context, truncation=\"only_second\", max_length={}, return_offsets_mapping=True, return_tensors=\"pt\"\n)\n\
             offsets, parts = inputs.pop(\"offset_mapping\")[0], inputs.sequence_ids(0)\n\
             with torch.inference_mode():\n    output = model(**inputs)\n\
             score = (output.start_logits[0][:, None] + output.end_logits[0][None]).triu().tril({})\n\
             inside = torch.tensor([part == 1 for part in parts])\n\
             score[~(inside[:, None] & inside[None]) | (score == 0)] = -torch.inf\n\
             first, last = divmod(int(score.argmax()), len(parts))\n\
             print(context[offsets[first][0] : offsets[last][1]])\n",
            self.imports("AutoModelForQuestionAnswering"),
            self.load("AutoModelForQuestionAnswering"),
            self.max_length,
            crate::config::DataConfig::default().max_answer_length - 1,
        )
    }

    /// A program that prints the choice with the highest probability.
    fn python_of_choices(&self) -> String {
        format!(
            "import torch\n{}\n\nfolder = \".\"\ntokenizer = AutoTokenizer.from_pretrained(folder)\n{}\
             # Of a question about a text, first is the text, and each of the second texts is the question, a space and a choice.\n\
             first, choices = \"a question\", [\"one answer\", \"another answer\"]\n\
             inputs = tokenizer(\n    [first] * len(choices), choices, truncation=True, max_length={}, padding=True, return_tensors=\"pt\"\n)\n\
             with torch.inference_mode():\n    logits = model(**{{name: values[None] for name, values in inputs.items()}}).logits[0]\n\
             probabilities = logits.softmax(-1).tolist()\n\
             print(choices[int(logits.argmax())], probabilities)\n",
            self.imports("AutoModelForMultipleChoice"),
            self.load("AutoModelForMultipleChoice"),
            self.max_length,
        )
    }

    fn python_that_writes(&self) -> String {
        let prompt = match self.chat_template {
            true => {
                "messages = [{\"role\": \"user\", \"content\": \"Hello\"}]\n\
                 inputs = tokenizer.apply_chat_template(\n    messages, add_generation_prompt=True, return_dict=True, return_tensors=\"pt\"\n)\n"
            }
            false => "inputs = tokenizer(\"Hello\", return_tensors=\"pt\")\n",
        };
        format!(
            "import torch\n{}\n\nfolder = \".\"\ntokenizer = AutoTokenizer.from_pretrained(folder)\n{}{prompt}\
             with torch.inference_mode():\n    output = model.generate(**inputs, max_new_tokens=64, do_sample=False)\n\
             print(tokenizer.decode(output[0, inputs[\"input_ids\"].shape[1] :], skip_special_tokens=True))\n",
            self.imports("AutoModelForCausalLM"),
            self.load("AutoModelForCausalLM"),
        )
    }

    fn imports(&self, class: &str) -> String {
        let peft = self.base_of_adapter.map_or("", imports_of_peft);
        format!("{peft}from transformers import {class}, AutoTokenizer")
    }

    /// Lines that make `model`.
    fn load(&self, class: &str) -> String {
        let Some(base) = self.base_of_adapter else {
            return format!("model = {class}.from_pretrained(folder).eval()\n");
        };
        let writes = self.task.kind().problem() == Kind::Generation.problem();
        let mut options = String::new();
        // Where it lies on this machine is nobody else's business, but the adapter's own file must say it.
        let name = match &base.python {
            Some((name, _)) => quoted(name),
            None => "PeftConfig.from_pretrained(folder).base_model_name_or_path".to_owned(),
        };
        if let Some((_, Some(revision))) = &base.python {
            let _ = write!(options, ", revision={}", quoted(revision));
        }
        if let Some(weights) = base.gguf {
            let _ = write!(options, ", gguf_file={}", quoted(weights));
        }
        if !writes {
            options += &format!(", num_labels={}", self.labels);
            // The base may have a head of its own, of another size; the adapter brings the right one.
            options += ", ignore_mismatched_sizes=True";
        }
        let resize = match self.added_tokens {
            false => "",
            true => {
                "rows = base.get_input_embeddings().num_embeddings\n\
                 base.resize_token_embeddings(max(rows, len(tokenizer)))\n"
            }
        };
        format!(
            "base = {class}.from_pretrained({name}{options})\n{resize}model = PeftModel.from_pretrained(base, folder).eval()\n"
        )
    }
}

/// What a program needs of PEFT: where Python cannot load the base by a name, the adapter's own file says where it lay.
fn imports_of_peft(base: &BaseName) -> &'static str {
    match base.python {
        Some(_) => "from peft import PeftModel\n",
        None => "from peft import PeftConfig, PeftModel\n",
    }
}

/// Lines that print what `logits` say.
fn asked(kind: Kind) -> &'static str {
    match kind {
        Kind::MultiLabel => {
            "saved = json.load(open(f\"{folder}/rekindle.json\", encoding=\"utf-8\"))\n\
             given = zip(saved[\"labels\"], logits.sigmoid().tolist(), saved[\"thresholds\"])\n\
             print([label for label, probability, threshold in given if probability >= threshold])\n"
        }
        Kind::Regression => {
            "names = json.load(open(f\"{folder}/rekindle.json\", encoding=\"utf-8\"))[\"labels\"]\n\
             print(dict(zip(names, logits.tolist())))\n"
        }
        _ => {
            "labels = json.load(open(f\"{folder}/rekindle.json\", encoding=\"utf-8\"))[\"labels\"]\n\
             print(labels[int(logits.argmax())], float(logits.softmax(0).max()))\n"
        }
    }
}
