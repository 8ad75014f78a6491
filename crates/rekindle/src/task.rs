//! The registry of kinds and tasks: what each is called, what it takes and what it learns. Defaults, settings and
//! constructors follow from the two.

use rekindle_models::Problem;

/// What a model takes.
pub use rekindle_models::Modality;

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])* $kind:ident = $words:literal: $problem:ident, )*) => {
        /// What is learned of each example.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $( $(#[doc = $doc])* $kind, )*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$( Self::$kind, )*];

            /// What a message calls it.
            pub(crate) const fn words(self) -> &'static str {
                match self {
                    $( Self::$kind => $words, )*
                }
            }

            /// How transformers calls the problem.
            #[must_use]
            pub const fn problem(self) -> Problem {
                match self {
                    $( Self::$kind => Problem::$problem, )*
                }
            }
        }
    };
}

kinds! {
    /// One of several classes.
    Classification = "classification": SingleLabel,
    /// One or several numbers.
    Regression = "regression": Regression,
    /// Any number of labels.
    MultiLabel = "multi-label classification": MultiLabel,
    /// One of several tags for each word of a text, which make spans.
    Tags = "token classification": Tokens,
    /// The piece of a text that answers a question.
    Extraction = "question answering": Span,
    /// Which of the choices that a question has is right.
    Choice = "multiple choice": Choice,
    /// The next token of a text.
    Generation = "text generation": NextToken,
    /// Which of two answers is better, or whether one is good.
    Preference = "preference tuning": NextToken,
    /// Vectors of texts, near each other where the texts belong together.
    Embedding = "sentence embeddings": Embedding,
}

macro_rules! tasks {
    ($( $(#[doc = $doc:literal])* $task:ident = $name:literal: $kind:ident of $modality:ident, )*) => {
        /// What a model learns to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Task {
            $( $(#[doc = $doc])* $task, )*
        }

        impl Task {
            /// Every task.
            pub const ALL: &'static [Self] = &[$( Self::$task, )*];
            /// Their names.
            pub(crate) const NAMES: &'static [&'static str] = &[$( $name, )*];

            /// The name as it stands in a run file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$task => $name, )*
                }
            }

            /// What is learned of each example.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self {
                    $( Self::$task => Kind::$kind, )*
                }
            }

            /// What the model takes.
            #[must_use]
            pub const fn modality(self) -> Modality {
                match self {
                    $( Self::$task => Modality::$modality, )*
                }
            }
        }
    };
}

tasks! {
    /// One label for a text or a pair of texts.
    TextClassification = "text-classification": Classification of Text,
    /// One or several numbers for a text or a pair of texts.
    TextRegression = "text-regression": Regression of Text,
    /// Any number of labels for a text or a pair of texts.
    TextMultiLabel = "text-multi-label": MultiLabel of Text,
    /// Labelled spans of a text, such as names: a tag for each word.
    TokenClassification = "token-classification": Tags of Text,
    /// Answers to questions, which are pieces of a text.
    QuestionAnswering = "question-answering": Extraction of Text,
    /// Which of the choices that a question has is right.
    MultipleChoice = "multiple-choice": Choice of Text,
    /// Answers in words: the next token of conversations and texts.
    TextGeneration = "text-generation": Generation of Text,
    /// Answers in words that are preferred to others: DPO, ORPO, KTO.
    TextPreference = "text-preference": Preference of Text,
    /// A vector for a text, near those of texts that belong to it.
    TextEmbedding = "text-embedding": Embedding of Text,
    /// One label for a picture.
    ImageClassification = "image-classification": Classification of Images,
    /// Any number of labels for a picture.
    ImageMultiLabel = "image-multi-label": MultiLabel of Images,
}

impl Task {
    /// The task of a model that was tuned for this one: what learned preferences is a model that writes.
    #[must_use]
    pub const fn when_tuned(self) -> Self {
        match self {
            Self::TextPreference => Self::TextGeneration,
            task => task,
        }
    }

    /// The task of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|task| task.name() == name)
    }

    /// The task of this kind on this modality.
    #[must_use]
    pub fn of(kind: Kind, modality: Modality) -> Option<Self> {
        let fits = |task: &Self| task.kind() == kind && task.modality() == modality;
        Self::ALL.iter().copied().find(fits)
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
