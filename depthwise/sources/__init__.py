"""Where networks come from: whatever names or holds one, opened in one way.

spec (what a text means) - files (what holds a whole network) - ours, libraries, factory (what
builds modules), building (all of these) - source (what was opened) - heads, run_folder (what
training leaves) - opening (`dw.open`) - exporting (`dw.export_onnx`).
"""
