"""Networks, in Keras 3 operations only, so that they run on every Keras backend."""
