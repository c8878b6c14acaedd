import { defineConfig } from "vite";
import { ON_DEMAND, offline } from "./build/offline.js";

const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/** The module for GPUs is large, and few need it: it lies apart, and the first visit does not load it. */
function assetFileNames({ originalFileNames }) {
  const folder = originalFileNames.some((name) => name.includes("pkg/webgpu/")) ? `assets/${ON_DEMAND}` : "assets";
  return `${folder}/[name]-[hash][extname]`;
}

export default defineConfig({
  base: "./",
  plugins: [offline()],
  worker: { format: "es", rolldownOptions: { output: { assetFileNames } } },
  build: { target: "es2023", assetsInlineLimit: 0 },
  server: { headers },
  preview: { headers },
});
