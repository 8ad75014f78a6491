//! Recipes: fine-tune a pretrained model from one configuration.
