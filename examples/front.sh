#!/usr/bin/env bash
# Learns a front of soups on real images and compares it with the grid. docs/results.md has results
# of this kind.
#
#   examples/front.sh DATA OUT
#
# Run examples/threat_soup.sh DATA OUT first: this script uses its ingredients and its grid. Every
# step resumes: run the script again after an interruption. It takes about an hour on two CPU cores.
set -eu
data=folder:$1
out=$2
ingredients="$out/linf.safetensors $out/l2.safetensors $out/l1.safetensors"

# Learn on images that trained the ingredients, and judge eleven points, and the soups on the Pareto
# front of the grid, on images that were not used before.
soupmerge front $ingredients --objective clean --objective linf:8/255 --data "$data" \
    --split 'train[:45000]' --limit 9000 --augment none --batch-size 64 --epochs 6 \
    --judge-split test --judge-limit 1000 --beside "$out/grid" -o "$out/front"
soupmerge report "$out/front"

# Pick the most robust soup that is right on 70% of the clean images, on images that chose the grid's
# best soup, and judge it on others.
soupmerge select "$out/front" --metric linf:8/255 --where 'clean>=0.7' --data "$data" \
    --split 'train[45000:]' --limit 500 -o "$out/picked.safetensors" --force
soupmerge eval "$out/picked.safetensors" "$out/front/front.json" --at 0,0.5,1 --data "$data" \
    --split test --limit 1000 --threat linf:8/255 -o "$out/picked"
