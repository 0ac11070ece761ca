"""The networks that `model_name` finds; Keras operations only, so that every Keras backend runs them."""
