"""The page explorer.html: one file in which a trained model runs in the browser.

| subject | files |
| --- | --- |
| what it holds | export (the model as ONNX), facts (figures, images), atlas (images instead) |
| the page | document (puts it together), page/ (HTML, style, texts, JavaScript) |
| what runs it | runtime/ (onnxruntime-web, vendored), update_runtime (its newest version) |
"""
