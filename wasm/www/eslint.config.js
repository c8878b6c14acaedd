import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["dist/", "src/pkg/", "test-results/"] },
  js.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser, ...globals.serviceworker } },
    rules: {
      "max-len": ["error", { code: 120, ignoreUrls: true }],
      "max-lines": ["error", 500],
      "max-lines-per-function": ["error", 60],
      eqeqeq: "error",
      "prefer-const": "error",
      "no-var": "error",
    },
  },
  { files: ["tests/**", "build/offline.js", "*.config.js"], languageOptions: { globals: globals.node } },
  { files: ["build/service-worker.js"], languageOptions: { globals: { VERSION: "readonly", FILES: "readonly" } } },
];
