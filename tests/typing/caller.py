"""What a type checker says of a program that uses hub_compat: ``make check`` runs it.

Each line with an "ignore" must be refused: the checker complains of one that is not.
"""

from __future__ import annotations

import hub_compat as hub

path: str = hub.resolve("https://tfhub.dev/google/nnlm-en-dim50/2")
detection: hub.Detection = hub.detect(path)
is_module: bool = detection.format is hub.Format.TF1_HUB_MODULE
report: hub.ConversionReport = hub.convert(path, "out", overwrite=True, verify=True)
verified: hub.VerificationReport = hub.verify(path, "out")
model = hub.load(path, tags={"train"})
layer = hub.KerasLayer(path, trainable=True)
hub.save(model, "saved", overwrite=True)
try:
    hub.load("nothing")
except hub.errors.HandleError as error:
    print(error)

number: int = hub.convert(path, "out")  # type: ignore[assignment]
text: str = hub.detect(path)  # type: ignore[assignment]
hub.load(path, 1, 2, 3, 4, 5, 6, 7, 8, 9)  # type: ignore[call-arg, arg-type]
hub.convert(path, "out", nothing=True)  # type: ignore[call-arg]
hub.KerasLayer()  # type: ignore[call-arg]
print(hub.nothing)  # type: ignore[attr-defined]
print(hub.errors.NoError)  # type: ignore[attr-defined]
