printf '{"score": NaN}' >/job/out/results.json
