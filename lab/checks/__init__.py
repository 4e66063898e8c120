"""The checks of a submission, per TODO, and the points that they are worth.

    record.py     run the student's code on small inputs and keep what it returns: a recording
                  (record_model.py, record_loss.py, experiments.py)
    recording.py  sizes and inputs of a recording, and its form as bytes
    model.py      judge what VAE and GenModel returned
                  (layers.py, encode.py, decode.py, forward.py; they share seen.py)
    loss.py       judge what vae_loss returned
    found.py      a problem, with its hint
    rubric.toml   the points of every part of the course; rubric.py reads it
    points.py     what was found wrong, as points per TODO
    prior.py      try fit_prior on a few codes
    training.py   train on one batch for a trial

Recording and judging are separate, so that the grader can record in the sandbox and judge outside.
"""
