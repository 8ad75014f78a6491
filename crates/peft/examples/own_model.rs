//! LoRA in a model of your own, with `rekindle-peft` and `rekindle-nn` alone: `cargo run -p rekindle-peft --example own_model`.

use burn::backend::{Autodiff, Flex};
use burn::module::Module;
use burn::tensor::{Distribution, Tensor, backend::Backend};
use rekindle_nn::{Pass, TuneBackend, adapter_slots, layers::Linear, params::NameMap};
use rekindle_peft::{LoraConfig, TargetModules, inject, save};

#[derive(Module, Debug)]
struct Mine<B: Backend> {
    up: Linear<B>,
    down: Linear<B>,
}
adapter_slots!(Mine { up, down });

impl<B: TuneBackend> Mine<B> {
    fn forward(&self, x: Tensor<B, 2>, pass: Pass) -> Tensor<B, 2> {
        self.down
            .forward(self.up.forward(x, pass.child(0)).tanh(), pass.child(1))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Default::default();
    let base = Mine::<Autodiff<Flex>> {
        up: Linear::normal(1, 8, 32, 0.3, &device),
        down: Linear::normal(2, 32, 3, 0.3, &device),
    };
    let config = LoraConfig {
        r: 4,
        target_modules: TargetModules::AllLinear,
        ..LoraConfig::default()
    };
    let (model, layers) = inject(base, &config, NameMap::default(), 42, &device)?;
    println!("adapters in {}", layers.join(", "));
    let x = Tensor::random([16, 8], Distribution::Default, &device);
    let grads = model
        .forward(x, Pass::training(42, 0))
        .powi_scalar(2)
        .mean()
        .backward();
    let adapter = model.up.adapter.as_ref().ok_or("no adapter")?;
    println!("gradient of B: {}", adapter.lora_b.grad(&grads).is_some());
    println!(
        "gradient of the frozen weight: {}",
        model
            .up
            .weight
            .parameter()
            .is_some_and(|weight| weight.grad(&grads).is_some())
    );
    Ok(save(
        &model,
        &config,
        NameMap::default(),
        &std::env::temp_dir().join("own-adapter"),
    )?)
}
