"""Training: small encoders from scratch, and longer reading for encoders that exist."""

from unabridged.training.corpus import Batch as Batch
from unabridged.training.corpus import Batches as Batches
from unabridged.training.corpus import Corpus as Corpus
from unabridged.training.errors import TrainingError as TrainingError
from unabridged.training.loop import make_optimizer as make_optimizer
from unabridged.training.loop import train as train
from unabridged.training.masking import MaskedLanguageModel as MaskedLanguageModel
from unabridged.training.masking import Masking as Masking
from unabridged.training.schedule import Schedule as Schedule
from unabridged.training.settings import Settings as Settings
from unabridged.training.settings import Step as Step
from unabridged.training.settings import Trained as Trained
