"""Training without an engine: what a worker does, whoever started it.

recipe.py        everything that changes the weights
samples.py       which rows of a data set are learnt from, which are measured
order.py         the order of the samples of every epoch
cache.py         decoded images on a machine, shared by its processes
pngs.py          the files of a data set to pixels, many at once
pixels.py        rows to pixels, through the cache
crops.py         what a sample shows of its image
batches.py       a worker's slices of the global batches
ahead.py         a few items got ready in the background
objectives.py    losses of a batch
optimisation.py  steps of the weights and of their running mean
group.py         the workers of a run, and what they tell each other
validation.py    figures on images that are not learnt from
history.py       what every epoch gave
curves.py        the history as a picture
sheets.py        restored images beside the originals
tensorboard.py   event files
tracking.py      MLflow, where it is installed
records.py       all of these into the output, after each epoch
card.py          the model card
outbox.py        writes that wait for storage in the background
output.py        whose an output is, and what it holds
publishing.py    the model directory
state.py         checkpoints
loop.py          steps, reports, validation, checkpoints
session.py       one worker's part, from data to model
"""
