//! Fine-tune MiniLM on a file of yours and use the result: `cargo run --release -p rekindle --example tickets -- tickets.csv`.

use rekindle::{Predictor, RunConfig, Silent};

fn main() -> Result<(), rekindle::Error> {
    let mut config = RunConfig::default(); // LoRA on MiniLM
    config.data.train = std::env::args().nth(1).map(Into::into);
    config.train.epochs = Some(5.0);
    let run = rekindle::finetune(&config, &Silent)?;
    println!(
        "{}, model in {}",
        run.figures.summary(),
        run.final_dir.display()
    );

    let predictor = Predictor::open(&run.final_dir, config.device, &Silent)?;
    let answer = &predictor.predict(&["my parcel never arrived"])?[0];
    println!("{:?}", answer.label());
    Ok(())
}
