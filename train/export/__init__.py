"""A trained model for others: ONNX, Core ML, a folder for timm and the Hugging Face Hub.

export        the verb
deployed      pixels -> logits in one module, as a device runs it
description   what travels inside the file: preprocessing, class names, licence, provenance
onnx_file     the ONNX file, and ONNX Runtime beside PyTorch
coreml        the Core ML package
"""
