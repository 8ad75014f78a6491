//! Pictures: files and folders -> [`ImageSet`] -> decoded [`Picture`]s -> transformed [`ImageBatch`]es.

pub mod colour;
mod decode;
mod facts;
mod loader;
mod parts;
mod set;
mod thumbnail;
pub mod transforms;
mod whole;

pub use decode::{Picture, picture_size, read_picture};
pub use facts::{PictureFacts, SmallPicture};
pub use loader::{ImageBatch, ImageLoader, Mix, Mixed};
pub use parts::{ImageParts, image_parts};
pub use set::{ImageRead, ImageSet, find_pictures, pictures_of_table, read_images};
pub(crate) use set::{PATH_COLUMNS, is_picture_name};
pub use thumbnail::thumbnail;
pub use transforms::{Augment, Draw, Interpolation, Preprocess, ResizedCrop};
